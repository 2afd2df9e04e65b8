#include "plumb/mix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "sink/mix_measurement.h"
#include "sink/mix_reductions.h"
#include "sink/p0_context.h"
#include "sink/reductions.h"

namespace plumb {
namespace {

std::vector<Component> parse_components(const std::string& text, int layers) {
  std::vector<Component> list;
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t end = std::min(text.find('+', from), text.size());
    const std::string name = text.substr(from, end - from);
    int layer = -1;
    const char* last = name.data() + name.size();
    const bool known = name.size() > 1 && (name[0] == 'a' || name[0] == 'm') &&
                       std::from_chars(name.data() + 1, last, layer).ptr == last && layer >= 0;
    if (!known || layer >= layers) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected components like m1+m2, of a0-a{0} and m0-m{0}, got \"{1}\" "
                              "in \"{2}\"",
                              layers - 1, name, text));
    }
    list.push_back({.layer = layer, .mlp = name[0] == 'm'});
    from = end + 1;
  }
  return list;
}

std::vector<Intervention> hide_column_zero(int layers, std::int64_t T) {
  std::vector<std::int64_t> later;
  for (std::int64_t t = 1; t < T; ++t) later.push_back(t);
  std::vector<Intervention> edits;
  for (int layer = 0; layer < layers; ++layer) {
    edits.push_back({.site = {Part::scores, layer},
                     .where = {.positions = later, .keys = {0}},
                     .edit = Hide{}});
  }
  return edits;
}

// Without the first token of each sequence.
Inputs without_first(const Inputs& inputs) {
  std::vector<std::vector<std::int64_t>> sequences;
  const std::vector<std::int64_t> lengths = token_counts(inputs.tokens);
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const at::Tensor row = inputs.tokens.ids[static_cast<std::int64_t>(b)].contiguous();
    const auto* ids = row.data_ptr<std::int64_t>();
    sequences.emplace_back(ids + 1, ids + lengths[b]);
  }
  return make_inputs(sequences, inputs.length() - 1, {}, inputs.kind);
}

int first_block(const std::vector<Component>& set) { return std::ranges::min(set).layer; }

Estimate paired(const std::vector<double>& values, const std::vector<double>& plain,
                std::uint64_t seed) {
  std::vector<double> change;
  for (std::size_t i = 0; i < values.size(); ++i) change.push_back(values[i] - plain[i]);
  return bootstrap(change, seed);
}

}  // namespace

void check(const MixOptions& options, const Model& model) {
  const ModelConfig& config = model.config();
  for (const std::string& set : options.knock_outs) parse_components(set, config.layers);
  const auto at_least = [](std::int64_t value, std::int64_t low, std::int64_t high,
                           const char* what) {
    if (value >= low && value <= high) return;
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected {} of {} to {}, got {}", what, low, high, value));
  };
  constexpr std::int64_t any = std::numeric_limits<std::int32_t>::max();
  at_least(options.position, -1, any, "a position to change");
  at_least(options.bands, 1, config.d_model, "a number of bands");
  at_least(options.jacobian_sequences, 0, any, "a number of sequences with Jacobians");
  at_least(options.jacobian_length, 2, any, "a length of Jacobians");
  at_least(options.probes, 0, any, "a number of probes");
}

std::int64_t foresee_mix(const Model& model, const Inputs& inputs, const MixOptions& options) {
  const std::int64_t layers = model.config().layers;
  const std::int64_t positions = inputs.tokens.ids.numel();
  const std::int64_t B = inputs.tokens.batch();
  const std::int64_t whole = 2 * positions * layers;
  std::int64_t evaluations = 2 * whole;  // plain, and with column 0 hidden
  if (inputs.bos) evaluations += whole - 2 * B * layers;
  for (const std::string& set : options.knock_outs) {
    const int first = first_block(parse_components(set, model.config().layers));
    evaluations += 2 * positions * (layers - first);
  }
  const std::int64_t conditions = 2 + (inputs.bos ? 1 : 0) + std::ssize(options.knock_outs);
  const std::vector<std::int64_t> lengths = token_counts(inputs.tokens);
  for (std::int64_t b = 0; b < std::min(options.jacobian_sequences, B); ++b) {
    const std::int64_t T = std::min(lengths[static_cast<std::size_t>(b)], options.jacobian_length);
    evaluations += conditions * reach_evaluations(model, T, options.probes);
  }
  return evaluations;
}

MixReport measure_mix(const Model& model, const Inputs& inputs,
                      const std::vector<std::int64_t>& replacements, const MixOptions& options,
                      const Progress& progress) {
  check(options, model);
  const int layers = model.config().layers;
  const std::int64_t B = inputs.tokens.batch();
  if (std::ssize(replacements) != B) {
    throw Error(ErrorKind::bad_argument, fmt::format("expected a replacement for each of {} "
                                                     "sequences, got {}",
                                                     B, replacements.size()));
  }
  const std::int64_t shortest = std::ranges::min(token_counts(inputs.tokens));
  const std::int64_t bos = inputs.bos ? 1 : 0;
  const std::int64_t content = shortest - bos;
  const std::int64_t position =
      bos + (options.position >= 0 ? options.position : std::max<std::int64_t>(1, content / 4));
  if (position < 1 || position > shortest - 2 || content < 3) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a token to change after the first and before the last of the "
                            "shortest sequence ({} tokens), got {}; see --position and --length",
                            content, position - bos));
  }

  MixReport report{.options = options};
  std::vector<std::vector<Component>> sets;
  for (const std::string& text : options.knock_outs) sets.push_back(parse_components(text, layers));
  std::map<Component, at::Tensor> values;  // what they write in the plain run, [B, 1, d]
  std::set<int> blocks;
  std::set<Component> components;
  for (const std::vector<Component>& set : sets) {
    if (first_block(set) > 0) blocks.insert(first_block(set));
    components.insert(set.begin(), set.end());
  }

  std::vector<MixSetting> settings;
  const auto nothing = [](std::int64_t, std::int64_t, std::int64_t) {
    return std::vector<Intervention>();
  };
  settings.push_back({.name = "plain", .inputs = inputs, .edits = nothing});
  if (inputs.bos) {
    settings.push_back(
        {.name = "no_bos", .inputs = without_first(inputs), .shifted = true, .edits = nothing});
  }
  settings.push_back({.name = "column0",
                      .inputs = inputs,
                      .edits = [layers](std::int64_t, std::int64_t, std::int64_t T) {
                        return hide_column_zero(layers, T);
                      }});
  for (const std::vector<Component>& set : sets) {
    report.replaced.push_back(to_string(set));
    settings.push_back({.name = to_string(set),
                        .inputs = inputs,
                        .edits =
                            [&values, set](std::int64_t first, std::int64_t count, std::int64_t) {
                              std::vector<Intervention> edits;
                              for (const Component component : set) {
                                edits.push_back(
                                    {.site = output_site(component),
                                     .where = {.positions = {0}},
                                     .edit = Put{values.at(component).narrow(0, first, count)}});
                              }
                              return edits;
                            },
                        .first_edited = first_block(set)});
  }

  const at::Tensor directions =
      model.whole() ? unembedding_directions(model).cpu()
                    : at::eye(model.config().d_model, at::TensorOptions().dtype(at::kDouble));
  const auto whole = static_cast<double>(foresee_mix(model, inputs, options));
  double done = 0.0;
  std::unique_ptr<MixMeasurement> plain;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const MixSetting& setting = settings[i];
    const double runs = 2.0 * static_cast<double>(setting.inputs.tokens.ids.numel()) *
                        (layers - setting.first_edited);
    auto measurement = std::make_unique<MixMeasurement>(model, setting, options,
                                                        position - (setting.shifted ? 1 : 0),
                                                        replacements, directions, plain.get());
    if (i == 0) measurement->keep_for_others(blocks, components);
    report.evaluations += measurement->run_all([&](double share) {
      if (progress) progress("measuring " + setting.name, (done + share * runs) / whole);
    });
    done += runs;
    if (i == 0) {
      plain = std::move(measurement);
      for (const Component component : components)
        values[component] = plain->ordinary_write(component);
    }
    const MixMeasurement& made = i == 0 ? *plain : *measurement;
    MixState state = made.state();
    state.spread_change = paired(made.relative_spreads(), plain->relative_spreads(), options.seed);
    if (model.whole()) {
      state.loss_change = paired(made.losses(), plain->losses(), options.seed);
    } else {
      constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
      state.loss = state.loss_change = {unknown, unknown, unknown};
    }
    const std::vector<std::int64_t> lengths = token_counts(setting.inputs.tokens);
    for (std::int64_t b = 0; b < std::min(options.jacobian_sequences, B); ++b) {
      if (progress) progress("pulling back through " + setting.name, done / whole);
      const std::int64_t T = std::min(lengths[static_cast<std::size_t>(b)],
                                      options.jacobian_length - (setting.shifted ? 1 : 0));
      if (T < 2) continue;
      state.reach.push_back(measure_reach(
          model, setting.inputs.tokens.ids.narrow(0, b, 1).narrow(1, 0, T).contiguous(),
          setting.edits(b, 1, T), options.probes, options.seed + static_cast<std::uint64_t>(b)));
      const std::int64_t taken = reach_evaluations(model, T, options.probes);
      report.evaluations += taken;
      done += static_cast<double>(taken);
    }
    report.states.push_back(std::move(state));
  }
  return report;
}

}  // namespace plumb
