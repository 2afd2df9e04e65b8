// The picture of a trace.
#include <fmt/format.h>

#include <algorithm>

#include "plumb/report_trace.h"
#include "report/line_picture.h"

namespace plumb {
namespace {

using report::Line;
using report::Panel;

constexpr std::size_t most_lines = 16;  // of a panel; more layers are thinned out

Line line_of(const Trace& trace, const std::string& column, const std::string& name) {
  Line line{.name = name, .values = trace.series(column)};
  for (const TraceEntry& entry : trace.entries) line.steps.push_back(entry.step);
  return line;
}

// The columns "PREFIX0", "PREFIX1", ...: evenly thinned out to what can be told apart.
std::vector<Line> lines_of(const Trace& trace, const std::string& prefix, const char* name) {
  int count = 0;
  while (std::ranges::find(trace.columns, fmt::format("{}{}", prefix, count)) !=
         trace.columns.end()) {
    ++count;
  }
  const int stride =
      std::max(1, (count + static_cast<int>(most_lines) - 1) / static_cast<int>(most_lines));
  std::vector<Line> lines;
  for (int i = 0; i < count; i += stride)
    lines.push_back(line_of(trace, fmt::format("{}{}", prefix, i), fmt::format("{} {}", name, i)));
  return lines;
}

}  // namespace

std::string trace_svg(const Trace& trace, const TraceSummary& summary) {
  if (trace.entries.empty()) return {};
  std::vector<Line> shares = lines_of(trace, "share.b", "block");
  shares.insert(shares.begin(), line_of(trace, "share.input", "input"));
  return report::line_picture(
      {{"Mean sink of each layer", lines_of(trace, "sink.L", "layer"), &summary.sink},
       {"Norm of position 0 over the median position's", lines_of(trace, "norm.", "enters")},
       {"Share of the sink direction", shares},
       {"Loss, nats per token", {line_of(trace, "loss", "loss")}, &summary.loss}});
}

}  // namespace plumb
