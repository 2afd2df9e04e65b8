// Names from files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// `text` in quotes, with control and non-ASCII bytes as \xNN and the middle left out when long.
std::string printable(std::string_view text);

}  // namespace plumb
