// Text for terminals that know no UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// The text in ASCII, one character for each, so that tables stay aligned: the shades of heat maps
/// as
/// '.' and the digits 1 to 8, rules as '-', what has no such likeness as '?'.
std::string plain_text(std::string_view text);

/// Whether the locale that these environment variables name has UTF-8: the first of LC_ALL,
/// LC_CTYPE and LANG that is set and not empty counts (POSIX); null where one is not set.
bool locale_has_utf8(const char* lc_all, const char* lc_ctype, const char* lang);

}  // namespace plumb
