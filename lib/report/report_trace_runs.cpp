#include "plumb/report_trace_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "plumb/error.h"
#include "plumb/report.h"
#include "plumb/version.h"
#include "report/json_pieces.h"
#include "report/line_picture.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

constexpr double significant = 0.05;

std::string step_or_dash(const std::optional<std::int64_t>& step) {
  return step ? std::to_string(*step) : "-";
}

std::string number_or_dash(double value) {
  return std::isfinite(value) ? format_number(value) : "-";
}

std::string change_cell(const ChangePoint& change) {
  if (!change.found) return "-";
  return fmt::format("{:.0f} [{:.0f}, {:.0f}]", change.step, change.low, change.high);
}

const Foresight* best_of(const ForesightReport& report) {
  const auto best = std::ranges::min_element(report.foresights, {}, [](const Foresight& one) {
    return one.loss_error > 0 ? one.both_error / one.loss_error : 1.0;
  });
  return best == report.foresights.end() ? nullptr : &*best;
}

// The answer in a sentence.
std::string verdict_of(const ForesightReport& report) {
  const Foresight* best = best_of(report);
  if (best == nullptr) return "Nothing was foretold.";
  const std::string found = fmt::format(
      "The most that any series adds to the loss now: {} at {} steps ahead, an error of {} in "
      "place "
      "of {} nats; p = {} over all series and horizons.",
      best->series, best->horizon, format_number(best->both_error), format_number(best->loss_error),
      format_number(report.family_p));
  if (report.smallest_p > significant) {
    return found + fmt::format(" {} runs cannot tell: no p under {} is possible with them.",
                               report.runs.size(), format_number(report.smallest_p));
  }
  return found + (report.family_p <= significant
                      ? " So it foretells the loss better than the loss alone does."
                      : " So no series is seen to foretell the loss better than the loss does.");
}

std::string foresight_text(const ForesightReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const Foresight& one : report.foresights) {
    rows.push_back({one.series, std::to_string(one.horizon), std::to_string(one.steps),
                    format_number(one.mean_error), format_number(one.loss_error),
                    format_number(one.series_error), format_number(one.both_error),
                    fmt::format("{}/{}", one.better, report.runs.size()), format_number(one.p)});
  }
  std::string text =
      heading("Later loss, foretold of the run left out") +
      columns({"<series", "ahead", "times", "mean", "loss", "series", "both", "better", "p"}, rows);
  text += wrap(
      "Root mean square errors in nats: of the other runs' mean loss at the later step alone, then "
      "with how far the run is now from their mean in loss, in the series, in both (regressions "
      "over the others). Better: runs that both foretells better than the loss alone. p: share of "
      "the ways to deal the series out to the runs in which it adds as much.");
  return text + wrap(verdict_of(report));
}

Json outcome_json(const RunOutcome& run) {
  const auto step = [](const std::optional<std::int64_t>& value) {
    return value ? Json(*value) : Json();
  };
  Json json = {{"name", run.name},
               {"steps", run.steps},
               {"loss", run.loss},
               {"sink_max", run.sink},
               {"first_wave", step(run.first_wave)},
               {"first_onset", step(run.first_onset)},
               {"change", {{"found", run.change.found}, {"p", run.change.p}}}};
  if (run.change.found) {
    json["change"]["step"] = run.change.step;
    json["change"]["interval"] = {run.change.low, run.change.high};
  }
  return json;
}

// The largest of the columns that the pattern names, at each step; empty where there are none.
std::vector<double> drawn(const TracedRun& run, const std::string& pattern) {
  if (!pattern.ends_with('*')) {
    if (!run.has(pattern)) return {};
    return run.series(pattern);
  }
  const std::string prefix = pattern.substr(0, pattern.size() - 1);
  std::vector<double> most;
  for (std::size_t c = 0; c < run.columns.size(); ++c) {
    if (!run.columns[c].starts_with(prefix)) continue;
    most.resize(run.steps.size(), std::numeric_limits<double>::quiet_NaN());
    for (std::size_t i = 0; i < most.size(); ++i) most[i] = std::fmax(most[i], run.values[i][c]);
  }
  return most;
}

}  // namespace

std::string trace_runs_text(const std::vector<RunOutcome>& runs,
                            const std::optional<ForesightReport>& foresight) {
  std::vector<std::vector<std::string>> rows;
  for (const RunOutcome& run : runs) {
    rows.push_back({run.name, std::to_string(run.steps), number_or_dash(run.loss),
                    number_or_dash(run.sink), step_or_dash(run.first_wave),
                    step_or_dash(run.first_onset), change_cell(run.change)});
  }
  std::string text = fmt::format("plumb trace: {} trainings\n", runs.size());
  text += columns({"<training", "steps", "loss", "strongest layer's sink", "first wave",
                   "first onset", "change of the sink"},
                  rows);
  if (foresight) text += foresight_text(*foresight);
  return text;
}

std::string trace_runs_json(const std::vector<RunOutcome>& runs,
                            const std::optional<ForesightReport>& foresight) {
  Json json = {{"plumb", std::string(version())}, {"command", "trace"}};
  json["runs"] = Json::array();
  for (const RunOutcome& run : runs) json["runs"].push_back(outcome_json(run));
  if (!foresight) return print(json);
  json["conventions"] = {
      {"error", "root mean square over steps and runs, nats; each run foretold from the others"},
      {"p", "share of the ways to deal the series out to the runs that add as much"}};
  json["first"] = foresight->options.first;
  json["foresights"] = Json::array();
  for (const Foresight& one : foresight->foresights) {
    json["foresights"].push_back({{"series", one.series},
                                  {"horizon", one.horizon},
                                  {"steps", one.steps},
                                  {"mean_error", one.mean_error},
                                  {"loss_error", one.loss_error},
                                  {"series_error", one.series_error},
                                  {"both_error", one.both_error},
                                  {"better", one.better},
                                  {"p", one.p}});
  }
  json["family_p"] = foresight->family_p;
  json["smallest_p"] = foresight->smallest_p;
  json["verdict"] = verdict_of(*foresight);
  return print(json);
}

std::string trace_runs_svg(const std::vector<TracedRun>& runs,
                           const std::vector<std::string>& columns) {
  std::vector<Panel> panels;
  for (const std::string& column : columns) {
    Panel panel{.title = column};
    for (const TracedRun& run : runs) {
      std::vector<double> values = drawn(run, column);
      if (!values.empty()) panel.lines.push_back({run.name, run.steps, std::move(values)});
    }
    // Says which columns there are.
    if (panel.lines.empty()) runs.front().series(column);
    panels.push_back(std::move(panel));
  }
  return line_picture(panels);
}

}  // namespace plumb
