#include "plumb/trace.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "plumb/error.h"
#include "plumb/run.h"

namespace plumb {

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

std::string half(int j) { return j % 2 == 0 ? std::to_string(j / 2) : fmt::format("{}.5", j / 2); }

void append(std::vector<double>& row, const at::Tensor& values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    row.push_back(values.defined() ? values[i].item<double>() : unknown);
}

// The wave with the largest mean sink, or nothing.
const Wave* strongest(const SinkSurvey& survey) {
  const auto most = std::ranges::max_element(survey.waves, {}, &Wave::mean);
  return most == survey.waves.end() ? nullptr : &*most;
}

// Shares of the input and of each block before `layer` in position 0's state there, along its mean
// over the sequences. Position 0 sees nothing else, so the first tokens alone are run.
std::vector<double> shares(const Model& model, const Inputs& inputs, int layer) {
  const int layers = model.config().layers;
  std::vector<double> result(static_cast<std::size_t>(layers) + 1, unknown);
  if (layer < 1) return result;
  Plan plan{.logits = Logits::none};
  for (int l = 0; l < layer; ++l) plan.record.emplace_back(Site{Part::resid_pre, l});
  plan.record.emplace_back(Site{Part::resid_post, layer - 1});
  plan.until = layer;
  Tokens first{.ids = inputs.tokens.ids.narrow(1, 0, 1)};
  if (!inputs.tokens.positions.empty()) first.positions = {inputs.tokens.positions.front()};
  const Run run = plumb::run(model, first, plan);
  const auto mean = [&](Site site) {
    return run.cache.at(site).squeeze(1).to(at::kDouble).mean(0).cpu();
  };
  const at::Tensor end = mean({Part::resid_post, layer - 1});
  const at::Tensor direction = end / end.norm();
  const double total = end.dot(direction).item<double>();
  double before = mean({Part::resid_pre, 0}).dot(direction).item<double>();
  result[0] = before / total;
  for (int l = 0; l < layer; ++l) {
    const at::Tensor after = l + 1 < layer ? mean({Part::resid_pre, l + 1}) : end;
    const double reached = after.dot(direction).item<double>();
    result[static_cast<std::size_t>(l) + 1] = (reached - before) / total;
    before = reached;
  }
  return result;
}

}  // namespace

void check(const TraceOptions& options) {
  check(options.sink);
  if (!(options.onset_rate > 0.0 && options.onset_rate <= 1.0)) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected an onset rate above 0 and at most 1, got {}", options.onset_rate));
  }
}

std::vector<std::string> trace_columns(const ModelConfig& config) {
  std::vector<std::string> columns = {"loss",  "sink_max",   "sink_rate",     "front_depth",
                                      "onset", "onset_rate", "concentration", "share.input"};
  for (int l = 0; l < config.layers; ++l) columns.push_back(fmt::format("share.b{}", l));
  for (int l = 0; l < config.layers; ++l) columns.push_back(fmt::format("sink.L{}", l));
  for (int l = 0; l < config.layers; ++l) columns.push_back(fmt::format("rate.L{}", l));
  for (int l = 0; l < config.layers; ++l) {
    for (int h = 0; h < config.heads; ++h) columns.push_back(fmt::format("sink.L{}.h{}", l, h));
  }
  for (const char* profile : {"norm", "cosine", "separability"}) {
    for (int j = 0; j <= 2 * config.layers; ++j)
      columns.push_back(fmt::format("{}.{}", profile, half(j)));
  }
  return columns;
}

std::vector<double> trace_values(const Model& model, const Inputs& inputs,
                                 const TraceOptions& options) {
  check(options);
  const ModelConfig& config = model.config();
  const SinkSurvey survey = survey_sink(model, inputs, options.sink);
  const Wave* wave = strongest(survey);
  const std::vector<double> parts = shares(model, inputs, wave == nullptr ? 0 : wave->onset);
  const double rate = sink_rate_from(survey, 0);
  double onset_rate = unknown;
  for (int l = config.layers - 1; l >= 0; --l) {
    if (survey.rate[l].item<double>() >= options.onset_rate) onset_rate = l;
  }
  std::vector<double> row = {
      survey.loss.mean,
      survey.layer_mean.max().item<double>(),
      rate,
      1.0 - rate,
      survey.waves.empty() ? unknown : survey.waves.front().onset,
      onset_rate,
      config.layers > 1 ? parts[1] + (std::isnan(parts[2]) ? 0.0 : parts[2]) : parts[1]};
  row.insert(row.end(), parts.begin(), parts.end());
  append(row, survey.layer_mean, config.layers);
  append(row, survey.rate, config.layers);
  append(row, survey.mean.reshape({-1}), std::int64_t{config.layers} * config.heads);
  const std::int64_t halves = 2 * std::int64_t{config.layers} + 1;
  append(row, survey.p0_norm / survey.median_norm, halves);
  append(row, survey.p0_cosine, halves);
  append(row, survey.separability, halves);
  return row;
}

std::vector<double> Trace::series(const std::string& column) const {
  const auto found = std::ranges::find(columns, column);
  if (found == columns.end()) {
    throw Error(ErrorKind::bad_argument, fmt::format("a trace has no column \"{:.60}\"; it has {}",
                                                     column, fmt::join(columns, ", ")));
  }
  const auto index = static_cast<std::size_t>(found - columns.begin());
  std::vector<double> result;
  for (const auto& row : values) result.push_back(row[index]);
  return result;
}

Trace trace_checkpoints(const std::vector<TraceEntry>& entries, const Inputs& inputs,
                        const TraceOptions& options, const LoadOptions& load,
                        const std::optional<Trace>& known,
                        const std::function<void(const Trace&)>& keep, const Progress& progress) {
  check(options);
  Trace trace{.options = options, .inputs_sha256 = inputs.sha256};
  const bool usable = known && known->inputs_sha256 == inputs.sha256;
  const auto row_of = [&](const TraceEntry& entry) -> const std::vector<double>* {
    if (!usable) return nullptr;
    for (std::size_t i = 0; i < known->entries.size(); ++i) {
      const TraceEntry& old = known->entries[i];
      if (old.name == entry.name && old.stamp == entry.stamp && old.step == entry.step)
        return &known->values[i];
    }
    return nullptr;
  };
  double done = 0;
  for (const TraceEntry& entry : entries) {
    if (progress) progress("measuring " + entry.name, done++ / static_cast<double>(entries.size()));
    const std::vector<double>* old = row_of(entry);
    if (old != nullptr && trace.columns.empty()) trace.columns = known->columns;
    std::vector<double> row;
    if (old != nullptr) {
      row = *old;
    } else {
      const Model model = plumb::load(entry.path, load);
      const std::vector<std::string> columns = trace_columns(model.config());
      if (trace.columns.empty()) trace.columns = columns;
      if (columns != trace.columns) {
        throw Error(ErrorKind::bad_argument,
                    fmt::format("{} has other layers or heads than the checkpoints before it",
                                entry.path.string()));
      }
      row = trace_values(model, inputs, options);
      ++trace.measured;
    }
    trace.entries.push_back(entry);
    trace.values.push_back(std::move(row));
    if (old == nullptr && keep) keep(trace);
  }
  if (progress) progress("measuring checkpoints", 1.0);
  return trace;
}

}  // namespace plumb
