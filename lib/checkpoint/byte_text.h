// Text as bytes: the byte-level alphabet, normalisation, and a legible form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// The bytes that a token stands for; nothing when it is not spelled in the byte-level alphabet.
std::optional<std::string> bytes_of(std::string_view token);

/// Normalisation form C of the well-formed stretches; ill-formed bytes stay. Throws too_large when
/// memory does not suffice.
std::string to_nfc(std::string_view text);

/// `bytes` with new line, tab, other control and format characters and ill-formed UTF-8 written as
/// \n, \t, \xNN.
std::string legible(std::string_view bytes);

}  // namespace plumb
