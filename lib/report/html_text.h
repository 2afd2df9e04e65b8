// Text in HTML: whatever it is, it stays text.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "report/json_pieces.h"

namespace plumb::report {

/// Escaped for text and for quoted attributes. What is not UTF-8, and control characters, become
/// U+FFFD; of more than `most` bytes the rest is cut off, with an ellipsis.
std::string html(std::string_view text, std::size_t most = 20'000);

/// One line of JSON that may stand in a <script>: no '<' is left in it.
std::string script_json(const Json& value);

/// RFC 4648, with padding.
std::string base64(std::span<const unsigned char> bytes);

}  // namespace plumb::report
