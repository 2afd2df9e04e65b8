#include "plumb/report_trace.h"

#include <fmt/format.h>

#include <cmath>

#include "plumb/report.h"
#include "report/json_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string change_sentence(const std::string& what, const ChangePoint& change) {
  if (!change.found) {
    return fmt::format("{}: no change point (p = {}).", what, format_number(change.p));
  }
  return fmt::format("{}: from {} to {} at step {} [{}, {}] (p = {}).", what,
                     format_number(change.before), format_number(change.after),
                     format_number(change.step), format_number(change.low),
                     format_number(change.high), format_number(change.p));
}

std::string step_sentence(const char* what, const std::optional<std::int64_t>& step) {
  return step ? fmt::format("{}: step {}.", what, *step) : fmt::format("{}: never.", what);
}

std::string layer_or_dash(double layer) {
  return std::isfinite(layer) ? fmt::format("{:.0f}", layer) : "-";
}

std::string share_or_dash(double share) {
  return std::isfinite(share) ? fmt::format("{:.2f}", share) : "-";
}

int layers_of(const Trace& trace) {
  int layers = 0;
  for (const std::string& column : trace.columns) layers += column.starts_with("rate.L") ? 1 : 0;
  return layers;
}

Json change_json(const ChangePoint& change) {
  Json json = {{"found", change.found}, {"p", change.p}};
  if (!change.found) return json;
  json["step"] = change.step;
  json["interval"] = {change.low, change.high};
  json["before"] = change.before;
  json["after"] = change.after;
  return json;
}

}  // namespace

std::string trace_csv(const Trace& trace) {
  std::string text = "step,name";
  for (const std::string& column : trace.columns) text += "," + column;
  text += "\n";
  for (std::size_t i = 0; i < trace.entries.size(); ++i) {
    text += fmt::format("{},{}", trace.entries[i].step, csv_cell(trace.entries[i].name));
    for (const double value : trace.values[i])
      text += std::isfinite(value) ? fmt::format(",{}", value) : ",";
    text += "\n";
  }
  return text;
}

std::string trace_text(const RunInfo& run, const Trace& trace, const TraceSummary& summary) {
  const SinkOptions& sink = trace.options.sink;
  std::string text = fmt::format("plumb trace: {} checkpoints, {} of them measured now\n",
                                 trace.entries.size(), trace.measured);
  text +=
      wrap(fmt::format("Sink of a head: attention to position 0, mean over queries ({}); a sink "
                       "head has more than {}. Front depth: 1 - share of sink heads. Norm: of "
                       "position 0 over the median position's, where the last block begins. "
                       "Blocks 0+1: their share of position 0's state along its direction where "
                       "the strongest wave begins.",
                       to_string(sink.queries), format_number(sink.epsilon)),
           0, 0);
  const int layers = layers_of(trace);
  const auto column = [&](const std::string& name) { return trace.series(name); };
  std::vector<std::string> titles = {"step", "loss", "onset", "front"};
  std::vector<std::vector<double>> sinks;
  for (int l = 0; l < layers; ++l) {
    titles.push_back(fmt::format("L{}", l));
    sinks.push_back(column(fmt::format("sink.L{}", l)));
  }
  titles.insert(titles.end(), {"norm", "blocks 0+1"});
  const std::vector<double> loss = column("loss");
  const std::vector<double> onset = column("onset");
  const std::vector<double> front = column("front_depth");
  const std::vector<double> norm = column(fmt::format("norm.{}", layers - 1));
  const std::vector<double> both = column("concentration");
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < trace.entries.size(); ++i) {
    std::vector<std::string> cells = {std::to_string(trace.entries[i].step), format_number(loss[i]),
                                      layer_or_dash(onset[i]), share_or_dash(front[i])};
    for (const auto& series : sinks) cells.push_back(share_or_dash(series[i]));
    cells.push_back(format_number(norm[i]));
    cells.push_back(share_or_dash(both[i]));
    rows.push_back(std::move(cells));
  }
  text += "\n" + columns(titles, rows) + "\n";
  text += wrap(step_sentence("First wave", summary.first_wave));
  text += wrap(step_sentence(fmt::format("First layer with {} of its heads sink heads",
                                         show_share(trace.options.onset_rate))
                                 .c_str(),
                             summary.first_onset));
  text += wrap(change_sentence("Sink of the strongest layer", summary.sink));
  text += wrap(change_sentence("Loss", summary.loss));
  if (std::isfinite(summary.lag)) {
    text += wrap(fmt::format("The sink's change comes {} steps after the loss's [{}, {}].",
                             format_number(summary.lag), format_number(summary.lag_low),
                             format_number(summary.lag_high)));
  }
  for (const auto& [what, file] : run.files) text += fmt::format("  {:<8} {}\n", what, file);
  return text;
}

std::string trace_json(const RunInfo& run, const Inputs& inputs, const Trace& trace,
                       const TraceSummary& summary) {
  Json json = document(run);
  json["inputs"] = inputs_json(inputs);
  json["conventions"] = {
      {"layers", "counted from 0"},
      {"sink", "attention of a query to key position 0, mean over the chosen queries"},
      {"queries", to_string(trace.options.sink.queries)},
      {"pool", to_string(trace.options.sink.pool)},
      {"epsilon", trace.options.sink.epsilon},
      {"wave_threshold", trace.options.sink.wave_threshold},
      {"onset_rate", trace.options.onset_rate},
      {"change",
       "best single step of the series by least squares; p by 999 permutations; interval "
       "95 % by likelihood ratio"},
      {"lag", "sink's change minus the loss's, in steps; interval: the extremes of both"}};
  json["columns"] = trace.columns;
  json["checkpoints"] = Json::array();
  for (std::size_t i = 0; i < trace.entries.size(); ++i) {
    json["checkpoints"].push_back({{"step", trace.entries[i].step},
                                   {"name", trace.entries[i].name},
                                   {"values", trace.values[i]}});
  }
  const auto step = [](const std::optional<std::int64_t>& value) {
    return value ? Json(*value) : Json();
  };
  json["first_wave"] = step(summary.first_wave);
  json["first_onset"] = step(summary.first_onset);
  json["change"] = {{"sink_max", change_json(summary.sink)}, {"loss", change_json(summary.loss)}};
  json["lag"] = {{"steps", summary.lag}, {"interval", {summary.lag_low, summary.lag_high}}};
  json["measured"] = trace.measured;
  put_end(json, run);
  return print(json);
}

}  // namespace plumb
