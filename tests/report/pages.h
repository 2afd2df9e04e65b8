// Archives made by hand, for the HTML report.
#pragma once

#include <filesystem>
#include <string>

#include "plumb/illustration.h"
#include "plumb/p0.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"

namespace plumb::test {

/// Text that would end or change the page if it were not escaped.
inline const std::string hostile_text =
    "</script><script>document.title='broken'</script><!--\"'&\u2028<img src=x onerror=alert(1)>";

RunInfo page_run(int layers, int heads, const std::string& text = hostile_text);
/// Waves, steps, rivals, profiles; sinks that rise with layer and head.
SinkSurvey page_survey(int layers, int heads);
/// Two sequences of `positions` tokens, each of which says `text`.
Illustration page_attention(int layers, int heads, int positions, const std::string& text);
P0Inputs page_inputs(int positions);
/// One wave with every table, `text` wherever there is free text, and a circuit with an eraser and
/// alternatives.
P0Report page_report(int layers, int heads, const std::string& text = hostile_text);

/// Where a page is written for the browser test to open: below $PLUMB_PAGES, or nowhere.
void keep_page(const std::string& name, const std::string& page);

}  // namespace plumb::test
