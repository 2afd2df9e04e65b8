#include "trace_runs.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "output.h"
#include "plumb/report_trace_runs.h"
#include "plumb/trace_runs.h"
#include "usage.h"

namespace plumb::app {
namespace {

constexpr std::int64_t kMostSteps = 100'000'000;

// Of the trace's columns those that some training has.
std::vector<std::string> usual_columns(const std::vector<TracedRun>& runs) {
  std::vector<std::string> columns;
  for (const char* column : {"loss", "sink_max", "front_depth", "concentration"}) {
    if (std::ranges::any_of(runs, [&](const TracedRun& run) { return run.has(column); }))
      columns.emplace_back(column);
  }
  return columns;
}

}  // namespace

void offer_trace_runs(CLI::App& app, TraceRunsFlags& flags) {
  offer(app, "--draw", "COLUMNS",
        "Of several trainings: what the picture shows, like loss,sink_max; 'silent.*' is the "
        "largest of those (loss, sink_max, front_depth, concentration)",
        [&flags](const std::string& text) { flags.draw = comma_list(text); });
  offer(app, "--foresee", "STEPS",
        "Of several trainings: how well the loss so many steps later is foretold by the loss now "
        "and by the sink, like 100,200",
        [&flags](const std::string& text) {
          for (const std::string& part : comma_list(text))
            flags.horizons.push_back(whole("--foresee", part, 1, kMostSteps));
        });
  offer(app, "--series", "COLUMNS",
        "... by which series (sink_max, front_depth, onset, onset_rate, since_wave, concentration, "
        "sink.L0, ...)",
        [&flags](const std::string& text) { flags.series = comma_list(text); });
  offer(app, "--from", "STEP", "... from which step on (0)",
        [&flags](const std::string& text) { flags.first = whole("--from", text, 0, kMostSteps); });
}

int run_trace_runs(const std::vector<std::string>& directories, const TraceRunsFlags& flags,
                   const Common& common, const std::string& svg) {
  std::vector<TracedRun> runs;
  std::vector<RunOutcome> outcomes;
  for (const std::string& directory : directories) {
    runs.push_back(read_traced_run(directory));
    outcomes.push_back(outcome_of(runs.back(), common.seed));
  }
  std::optional<ForesightReport> foresight;
  if (!flags.horizons.empty()) {
    foresight = foresee_loss(runs, {.horizons = flags.horizons,
                                    .series = flags.series,
                                    .first = flags.first,
                                    .seed = common.seed});
  }
  const std::string picture =
      trace_runs_svg(runs, flags.draw.empty() ? usual_columns(runs) : flags.draw);
  if (!common.out.empty()) prepare_directory(common.out);
  const std::string json = trace_runs_json(outcomes, foresight);
  const std::string text = trace_runs_text(outcomes, foresight);
  deliver(
      [&] {
        const std::filesystem::path directory = common.out;
        if (!common.out.empty()) {
          write_file(directory / "runs.json", json);
          write_file(directory / "runs.txt", text);
          write_file(directory / "runs.svg", picture);
        }
        if (!svg.empty()) write_file(svg, picture);
      },
      common.json ? json : text);
  return 0;
}

}  // namespace plumb::app
