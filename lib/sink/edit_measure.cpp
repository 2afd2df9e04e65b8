// What an edit changes: loss, sink, massive activations, and how well activations can be rounded.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "plumb/edit.h"
#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "sink/edit_parts.h"
#include "sink/mix_measurement.h"
#include "sink/reductions.h"

namespace plumb {

namespace {

constexpr std::array<Rounding, 2> roundings = {Rounding::per_token, Rounding::per_tensor};

// Sequences of one length, so that nothing is padded.
struct Chunk {
  Tokens tokens = {};
  std::int64_t skip = 0;  // first predictions that do not count
};

std::vector<Chunk> chunks_of(const Inputs& inputs) {
  const std::vector<std::int64_t> lengths = token_counts(inputs.tokens);
  std::vector<Chunk> chunks;
  for (std::size_t first = 0; first < lengths.size();) {
    const std::int64_t T = lengths[first];
    if (T < 3) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("edit: sequences must have 3 or more tokens, not {}", T));
    }
    const auto most =
        static_cast<std::size_t>(std::max<std::int64_t>(1, mix_positions_at_once / T));
    std::size_t end = first + 1;
    while (end < lengths.size() && lengths[end] == T && end - first < most) ++end;
    const at::Tensor ids = inputs.tokens.ids.narrow(0, static_cast<std::int64_t>(first),
                                                    static_cast<std::int64_t>(end - first));
    chunks.push_back({{.ids = ids.narrow(1, 0, T).contiguous()}, inputs.bos ? 1 : 0});
    first = end;
  }
  return chunks;
}

// [b, H, Q, 1] to its mean over queries after the first, [b, H].
at::Tensor later_queries(const at::Tensor& column, const Tile& /*tile*/) {
  return column.select(3, 0).narrow(2, 1, column.size(2) - 1).to(at::kDouble).mean(2);
}

// [b, 2]: the largest magnitude, and its ratio to the median one.
at::Tensor magnitudes(const at::Tensor& state, const Tile& /*tile*/) {
  const at::Tensor flat = state.flatten(1).abs().to(at::kDouble);
  const at::Tensor largest = flat.amax(1);
  return at::stack({largest, largest / std::get<0>(flat.median(1))}, 1);
}

// [b, 2] relative error of rounding at position 0, and its mean over the others.
Reduce rounding_error(int bits, Rounding rounding) {
  return [bits, rounding](const at::Tensor& state, const Tile& /*tile*/) {
    const at::Tensor wide = state.to(at::kDouble);
    const auto length = [](const at::Tensor& x) {
      return at::linalg_vector_norm(x, 2, c10::IntArrayRef{-1}, false);
    };
    const at::Tensor error = length(plumb::rounded(wide, bits, rounding) - wide) /
                             length(wide).clamp_min(std::numeric_limits<double>::min());
    return at::stack({error.select(1, 0), error.narrow(1, 1, error.size(1) - 1).mean(1)}, 1);
  };
}

std::string label_of(int bits, Rounding rounding) {
  return fmt::format("{} {}", bits, to_string(rounding));
}

std::vector<Intervention> rounding_edits(const ModelConfig& config, int bits, Rounding rounding) {
  const Custom edit{label_of(bits, rounding), [bits, rounding](const at::Tensor& x) {
                      return plumb::rounded(x, bits, rounding);
                    }};
  std::vector<Intervention> edits;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const Part part :
         {Part::q_in, Part::k_in, Part::v_in, Part::z, Part::mlp_in, Part::mlp_post}) {
      if (has_part(config, part, layer)) edits.push_back({{part, layer}, {}, edit});
    }
  }
  edits.push_back({{Part::resid_final}, {}, edit});
  return edits;
}

void join(std::vector<Intervention>& edits, const std::vector<Intervention>& more) {
  edits.insert(edits.end(), more.begin(), more.end());
}

void append(std::vector<double>& list, const at::Tensor& values) {
  const at::Tensor wide = values.to(at::kDouble).cpu().contiguous();
  const auto* from = wide.data_ptr<double>();
  list.insert(list.end(), from, from + wide.numel());
}

// One value for each sequence.
struct Values {
  std::vector<double> loss = {}, rate = {}, mass = {}, slot = {}, largest = {}, ratio = {};
  struct Rounded {
    std::vector<double> loss = {}, first = {}, others = {};
  };
  std::vector<Rounded> rounded = {};
};

class Measurement {
 public:
  Measurement(const Model& model, const EditOptions& options, bool at_run_time)
      : model_(model), config_(model.config()), options_(options), at_run_time_(at_run_time) {
    values_.rounded.resize(options.bits.size() * roundings.size());
  }

  void take(const Chunk& chunk) {
    const std::vector<Intervention> edits = at_run_time_ ? run_time_edits(chunk) : none_;
    keep(go(chunk, edits, true));
    std::size_t place = 0;
    for (const int bits : options_.bits) {
      for (const Rounding rounding : roundings) {
        std::vector<Intervention> all = edits;
        join(all, rounding_edits(config_, bits, rounding));
        append(values_.rounded[place].loss, loss_of(go(chunk, all, false)));
        ++place;
      }
    }
  }

  const Values& values() const { return values_; }
  std::int64_t evaluations() const { return evaluations_; }

 private:
  std::vector<Intervention> run_time_edits(const Chunk& chunk) {
    std::vector<Intervention> edits;
    const std::int64_t T = chunk.tokens.length();
    if (options_.window > 0)
      join(edits, window_edits(config_.layers, T, options_.window, options_.keep));
    if (options_.knock_out.empty()) return edits;
    const auto components = edited_components(options_.knock_out, config_);
    Plan plan{.interventions = edits, .logits = Logits::none};
    for (const Component component : components)
      plan.record.push_back({output_site(component), "mean", mean_of_others()});
    const Run made = run(model_, chunk.tokens, plan);
    evaluations_ += made.evaluations;
    for (const Component component : components) {
      edits.push_back({output_site(component),
                       {.positions = {0}},
                       Put{made.cache.at(output_site(component), "mean")}});
    }
    return edits;
  }

  Run go(const Chunk& chunk, const std::vector<Intervention>& edits, bool everything) {
    Plan plan{.record = {record_loss(chunk.skip)}, .interventions = edits, .logits = Logits::none};
    for (int layer = 0; everything && layer < config_.layers; ++layer) {
      plan.record.push_back({{Part::pattern, layer}, "sink", later_queries, {.keys = {0}}});
      if (config_.sink_logits)
        plan.record.push_back({{Part::sink_mass, layer}, "slot", later_queries});
      plan.record.push_back({{Part::resid_post, layer}, "size", magnitudes});
      for (const int bits : options_.bits) {
        for (const Rounding rounding : roundings) {
          plan.record.push_back(
              {{Part::resid_pre, layer}, label_of(bits, rounding), rounding_error(bits, rounding)});
        }
      }
    }
    Run made = run(model_, chunk.tokens, plan);
    evaluations_ += made.evaluations;
    return made;
  }

  static at::Tensor loss_of(const Run& run) { return run.cache.at({Part::logits}, "loss"); }

  // [L, ...] of what was recorded in each layer.
  at::Tensor layers_of(const Run& run, Part part, const std::string& label) const {
    std::vector<at::Tensor> list;
    for (int layer = 0; layer < config_.layers; ++layer)
      list.push_back(run.cache.at({part, layer}, label).to(at::kDouble).cpu());
    return at::stack(list);
  }

  void keep(const Run& run) {
    append(values_.loss, loss_of(run));
    const at::Tensor sink = layers_of(run, Part::pattern, "sink");  // [L, b, H]
    append(values_.rate, sink.gt(options_.epsilon).to(at::kDouble).mean(2).mean(0));
    append(values_.mass, sink.mean(2).mean(0));
    if (config_.sink_logits)
      append(values_.slot, layers_of(run, Part::sink_mass, "slot").mean(2).mean(0));
    const at::Tensor size = layers_of(run, Part::resid_post, "size").amax(0);  // [b, 2]
    append(values_.largest, size.select(1, 0));
    append(values_.ratio, size.select(1, 1));
    std::size_t place = 0;
    for (const int bits : options_.bits) {
      for (const Rounding rounding : roundings) {
        const at::Tensor error = layers_of(run, Part::resid_pre, label_of(bits, rounding)).mean(0);
        append(values_.rounded[place].first, error.select(1, 0));
        append(values_.rounded[place].others, error.select(1, 1));
        ++place;
      }
    }
  }

  const Model& model_;
  const ModelConfig& config_;
  const EditOptions& options_;
  const bool at_run_time_;
  const std::vector<Intervention> none_ = {};
  Values values_ = {};
  std::int64_t evaluations_ = 0;
};

std::vector<double> less(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) result.push_back(a[i] - b[i]);
  return result;
}

EditState state_of(const Values& values, const EditOptions& options) {
  EditState state{.loss = bootstrap(values.loss),
                  .sink_rate = bootstrap(values.rate),
                  .sink_mass = bootstrap(values.mass),
                  .slot_mass = bootstrap(values.slot),
                  .largest = bootstrap(values.largest),
                  .ratio = bootstrap(values.ratio)};
  const auto sequences = static_cast<std::int64_t>(values.loss.size());
  state.each = at::full({sequences, 6}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  std::int64_t column = 0;
  for (const auto* list :
       {&values.loss, &values.rate, &values.mass, &values.slot, &values.largest, &values.ratio}) {
    if (!list->empty()) state.each.select(1, column).copy_(at::tensor(*list, at::kDouble));
    ++column;
  }
  std::size_t place = 0;
  for (const int bits : options.bits) {
    for (const Rounding rounding : roundings) {
      const Values::Rounded& one = values.rounded[place++];
      state.rounded.push_back({.bits = bits,
                               .rounding = rounding,
                               .first_error = bootstrap(one.first),
                               .others_error = bootstrap(one.others),
                               .loss = bootstrap(one.loss),
                               .loss_change = bootstrap(less(one.loss, values.loss))});
    }
  }
  return state;
}

Values change_of(const Values& before, const Values& after) {
  Values change{.loss = less(after.loss, before.loss),
                .rate = less(after.rate, before.rate),
                .mass = less(after.mass, before.mass),
                .slot = less(after.slot, before.slot),
                .largest = less(after.largest, before.largest),
                .ratio = less(after.ratio, before.ratio)};
  for (std::size_t i = 0; i < before.rounded.size(); ++i) {
    const Values::Rounded& a = after.rounded[i];
    const Values::Rounded& b = before.rounded[i];
    change.rounded.push_back(
        {less(a.loss, b.loss), less(a.first, b.first), less(a.others, b.others)});
  }
  return change;
}

}  // namespace

const char* to_string(Rounding rounding) noexcept {
  return rounding == Rounding::per_token ? "per_token" : "per_tensor";
}

at::Tensor rounded(const at::Tensor& x, int bits, Rounding rounding) {
  const double levels = std::exp2(bits - 1) - 1.0;
  const at::Tensor rows = x.flatten(rounding == Rounding::per_token ? 2 : 1).to(at::kDouble);
  const at::Tensor largest = rows.abs().amax(-1, true);
  const at::Tensor step = largest / levels;
  const at::Tensor result = (rows / step).round() * step;
  return at::where(largest > 0, result, rows).view(x.sizes()).to(x.scalar_type());
}

std::vector<Intervention> window_edits(int layers, std::int64_t T, std::int64_t window,
                                       std::int64_t keep) {
  const at::Tensor index = at::arange(T, at::TensorOptions().dtype(at::kLong));
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  const at::Tensor hidden = distance.ge(window).logical_and(index.unsqueeze(0).ge(keep));
  const at::Tensor delta = at::zeros({T, T}, at::kFloat)
                               .masked_fill(hidden, -std::numeric_limits<double>::infinity())
                               .view({1, 1, T, T});
  std::vector<Intervention> edits;
  for (int layer = 0; layer < layers; ++layer)
    edits.push_back({{Part::scores, layer}, {}, Add{delta}});
  return edits;
}

EditReport measure_edit(const Model& model, const EditedModel& edited, const Inputs& inputs,
                        const EditOptions& options, const Progress& progress) {
  check(options, model.config());
  if (!model.whole())
    throw Error(ErrorKind::bad_argument, "edit: a loss needs every block of the model");
  const std::vector<Chunk> chunks = chunks_of(inputs);
  Measurement before(model, options, false);
  Measurement after(edited.model, options, true);
  std::size_t done = 0;
  for (const Chunk& chunk : chunks) {
    for (Measurement* one : {&before, &after}) {
      if (progress)
        progress("measuring", static_cast<double>(done++) / static_cast<double>(2 * chunks.size()));
      one->take(chunk);
    }
  }
  if (progress) progress("measuring", 1.0);
  EditReport report{.options = options,
                    .null = uniform_sink(inputs.length(), Queries::no_self),
                    .before = state_of(before.values(), options),
                    .after = state_of(after.values(), options),
                    .change = state_of(change_of(before.values(), after.values()), options),
                    .evaluations = before.evaluations() + after.evaluations()};
  return report;
}

}  // namespace plumb
