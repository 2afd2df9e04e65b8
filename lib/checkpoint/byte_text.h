// Text as bytes: the byte-level alphabet, and a legible form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// The bytes that a token stands for; nothing when it is not spelled in the byte-level alphabet.
std::optional<std::string> bytes_of(std::string_view token);

/// The letter that stands for a byte in the byte-level alphabet.
std::string in_byte_alphabet(char byte);

/// `bytes` with new line, tab, other control and format characters and ill-formed UTF-8 written as
/// \n, \t, \xNN.
std::string legible(std::string_view bytes);

}  // namespace plumb
