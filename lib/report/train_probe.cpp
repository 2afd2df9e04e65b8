#include "plumb/train_probe.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "plumb/inputs.h"
#include "plumb/report.h"
#include "plumb/trace.h"
#include "report/text_pieces.h"

namespace plumb {

namespace {

constexpr std::size_t lines_shown = 12;

std::vector<std::vector<std::int64_t>> to_lists(const at::Tensor& ids) {
  const auto rows = ids.accessor<std::int64_t, 2>();
  std::vector<std::vector<std::int64_t>> lists(static_cast<std::size_t>(rows.size(0)));
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    for (std::int64_t t = 0; t < rows.size(1); ++t)
      lists[static_cast<std::size_t>(i)].push_back(rows[i][t]);
  }
  return lists;
}

}  // namespace

Probe sink_probe(const TrainOptions& options, std::int64_t sequences) {
  const TaskBatch batch = Task(options.task).held_out(0, sequences);
  const Inputs inputs = make_inputs(to_lists(batch.ids), options.task.length, {}, "tokens");
  Probe probe{.columns = {"loss_silent", "loss_active"}};
  for (int layer = 0; layer < options.config.layers; ++layer) {
    for (int head = 0; head < options.config.heads; ++head)
      probe.columns.push_back(fmt::format("silent.L{}.h{}", layer, head));
  }
  if (has_checkpoints(options)) {
    for (const std::string& column : trace_columns(options.config)) probe.columns.push_back(column);
  }
  for (const char* what : {"active", "drain"}) {
    for (int layer = 0; layer < options.config.layers; ++layer) {
      for (int head = 0; head < options.config.heads; ++head)
        probe.columns.push_back(fmt::format("{}.L{}.h{}", what, layer, head));
    }
  }
  for (int layer = 0; layer < options.config.layers; ++layer)
    probe.columns.push_back(fmt::format("peak.L{}", layer));
  const std::vector<Intervention> edits = attention_edits(options.config, options.attention);
  probe.measure = [batch, inputs, edits](const Training& training) {
    const TaskMeasure measure = measure_task(training.model(), batch, edits);
    std::vector<double> row = {measure.loss_silent, measure.loss_active};
    const auto add = [&row](const at::Tensor& values) {
      const at::Tensor flat = values.reshape({-1});
      for (std::int64_t i = 0; i < flat.size(0); ++i) row.push_back(flat[i].item<double>());
    };
    add(measure.sink_silent);
    if (has_checkpoints(training.options())) {
      const std::vector<double> values = trace_values(training.model(), inputs);
      row.insert(row.end(), values.begin(), values.end());
    }
    add(measure.sink_active);
    add(measure.drain);
    add(measure.peak);
    return row;
  };
  return probe;
}

std::string train_text(const Training& training, const TrainFiles& files, const Probe& probe,
                       const TrainOutcome& outcome) {
  const TrainOptions& options = training.options();
  if (outcome.finished_before) {
    return fmt::format("{} holds this training already, finished\n", files.directory.string());
  }
  std::string text = fmt::format(
      "Trained {} layers of {} heads, width {}, on {} for {} steps of {} sequences of {} tokens; "
      "in "
      "{}\n",
      options.config.layers, options.config.heads, options.config.d_model,
      to_string(options.task.task), options.steps, options.batch, options.task.length,
      files.directory.string());
  const std::vector<StepRecord>& history = training.history();
  if (!history.empty()) {
    text += fmt::format("Loss of the first step {}, of the last {}\n",
                        format_number(history.front().loss), format_number(history.back().loss));
  }
  if (outcome.probes.empty()) return text;
  const auto place = [&](const std::string& column) {
    return static_cast<std::size_t>(std::ranges::find(probe.columns, column) -
                                    probe.columns.begin()) +
           1;
  };
  std::vector<std::string> titles = {"step", "silent loss", "active loss"};
  for (int layer = 0; layer < options.config.layers; ++layer) {
    titles.push_back(fmt::format("L{} heads' sink", layer));
    titles.push_back(fmt::format("peak {}", layer));
  }
  std::vector<std::vector<std::string>> rows;
  const std::size_t count = outcome.probes.size();
  const std::size_t shown = std::min(count, lines_shown);
  for (std::size_t i = 0; i < shown; ++i) {
    // The first, the last, and others evenly between them.
    const auto& values = outcome.probes[shown == 1 ? count - 1 : i * (count - 1) / (shown - 1)];
    std::vector<std::string> cells = {fmt::format("{:.0f}", values.front()),
                                      format_number(values[1]),
                                      std::isnan(values[2]) ? "-" : format_number(values[2])};
    for (int layer = 0; layer < options.config.layers; ++layer) {
      std::string heads;
      for (int head = 0; head < options.config.heads; ++head) {
        heads += fmt::format("{}{:.2f}", head == 0 ? "" : " ",
                             values[place(fmt::format("silent.L{}.h{}", layer, head))]);
      }
      cells.push_back(heads);
      cells.push_back(format_number(values[place(fmt::format("peak.L{}", layer))]));
    }
    rows.push_back(std::move(cells));
  }
  text +=
      "\nHeld-out sequences; sink: attention of silent queries to position 0; peak: norm of "
      "position\n0 over the mean norm, where the block is left.\n\n";
  return text + report::columns(titles, rows);
}

}  // namespace plumb
