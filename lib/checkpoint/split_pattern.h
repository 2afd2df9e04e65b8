// Split patterns of `tokenizer.json`, carried over from Oniguruma's syntax to PCRE2's.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// The pattern for PCRE2 with UTF, UCP and MULTILINE. Throws unsupported, beginning with `where`,
/// for a construct that the two read differently or that PCRE2 lacks.
std::string translate_split_pattern(std::string_view source, const std::string& where);

}  // namespace plumb
