// What a person at a terminal is shown.
#pragma once

#include <string>

namespace plumb::app {

/// The text as standard output can show it: in ASCII where that is a terminal whose locale has no
/// UTF-8. Files and pipes always get the text itself.
std::string shown_text(const std::string& text);

}  // namespace plumb::app
