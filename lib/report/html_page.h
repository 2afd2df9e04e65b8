// The style sheet and the script of the HTML report, as lib/report/page/ has them.
#pragma once

#include <string_view>

namespace plumb::report {

extern const std::string_view page_style;
extern const std::string_view page_script;

}  // namespace plumb::report
