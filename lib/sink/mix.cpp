#include "plumb/mix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "sink/mix_reductions.h"
#include "sink/p0_context.h"
#include "sink/reductions.h"

namespace plumb {
namespace {

// Positions computed per call of `run`.
constexpr std::int64_t positions_per_chunk = 2048;

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

// A condition before it is measured. `edits` are those for a run on sequences [first, first +
// count) of so many positions.
struct Setting {
  std::string name = {};
  Inputs inputs = {};
  bool shifted = false;  // one position shorter than the plain inputs: they begin with a BOS
  std::function<std::vector<Intervention>(std::int64_t first, std::int64_t count, std::int64_t T)>
      edits = {};
};

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

std::vector<std::int64_t> lengths_of(const Tokens& tokens) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(tokens.batch()), tokens.length());
  if (tokens.lengths.defined()) {
    for (std::int64_t b = 0; b < tokens.batch(); ++b)
      lengths[static_cast<std::size_t>(b)] = tokens.lengths[b].item<std::int64_t>();
  }
  return lengths;
}

// Without the first token of each sequence.
Inputs without_first(const Inputs& inputs) {
  std::vector<std::vector<std::int64_t>> sequences;
  const std::vector<std::int64_t> lengths = lengths_of(inputs.tokens);
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const at::Tensor row = inputs.tokens.ids[static_cast<std::int64_t>(b)].contiguous();
    const auto* ids = row.data_ptr<std::int64_t>();
    sequences.emplace_back(ids + 1, ids + lengths[b]);
  }
  return make_inputs(sequences, inputs.length() - 1, {}, inputs.kind);
}

Tokens part_of(const Tokens& tokens, std::int64_t first, std::int64_t count) {
  Tokens part{.ids = tokens.ids.narrow(0, first, count), .positions = tokens.positions};
  if (tokens.lengths.defined()) part.lengths = tokens.lengths.narrow(0, first, count);
  return part;
}

at::Tensor mean_ignoring_nan(const at::Tensor& x) {  // over axis 0
  const at::Tensor there = x.isnan().logical_not();
  return x.nan_to_num(0.0).sum(0) / there.to(x.options()).sum(0);
}

// Sums over sequences, in float64, and what is kept of each sequence.
class Measurement {
 public:
  Measurement(const Model& model, const Setting& setting, const MixOptions& options,
              std::int64_t position, const std::vector<std::int64_t>& replacements,
              const at::Tensor& directions)
      : model_(model),
        setting_(setting),
        options_(options),
        layers_(model.config().layers),
        position_(position),
        replacements_(replacements),
        directions_(directions),
        lengths_(lengths_of(setting.inputs.tokens)) {}

  // Returns the evaluations.
  std::int64_t run_all(const std::function<void(double)>& tell) {
    const Tokens& tokens = setting_.inputs.tokens;
    const std::int64_t T = tokens.length();
    const std::int64_t chunk = std::max<std::int64_t>(1, positions_per_chunk / T);
    std::int64_t evaluations = 0;
    for (std::int64_t first = 0; first < tokens.batch(); first += chunk) {
      tell(static_cast<double>(first) / static_cast<double>(tokens.batch()));
      const std::int64_t count = std::min(chunk, tokens.batch() - first);
      const std::vector<Intervention> edits = setting_.edits(first, count, T);
      const Tokens part = part_of(tokens, first, count);
      Run plain = run(model_, part, plan(edits, true));
      Tokens changed = part;
      changed.ids = part.ids.clone();
      for (std::int64_t b = 0; b < count; ++b) {
        const std::int64_t old = part.ids[b][position_].item<std::int64_t>();
        const std::int64_t other = replacements_[static_cast<std::size_t>(first + b)];
        changed.ids[b][position_].fill_(other == old ? (other + 1) % model_.config().vocab : other);
      }
      const Run moved = run(model_, changed, plan(edits, false));
      evaluations += plain.evaluations + moved.evaluations;
      keep(plain, moved, first, count);
    }
    return evaluations;
  }

  MixState state() const {
    MixState state{
        .name = setting_.name, .length = setting_.inputs.length(), .position = position_};
    const auto mean = [](const std::vector<at::Tensor>& list) { return at::stack(list).mean(0); };
    const at::Tensor pairs = mean(collapses_);  // [L + 1, 4]
    state.rank_distance = pairs.select(1, 0).contiguous();
    state.rank_collapse = pairs.select(1, 1).contiguous();
    state.last_distance = pairs.select(1, 2).contiguous();
    state.last_relative = pairs.select(1, 3).contiguous();
    state.energy = mean(energies_);
    state.change = mean_ignoring_nan(at::stack(changes_));
    state.relative = mean_ignoring_nan(at::stack(relatives_));
    state.sink = at::cat(sink_, 0).mean(c10::IntArrayRef{0, 2});
    state.entropy = at::cat(entropy_, 0).mean(c10::IntArrayRef{0, 2});
    const at::Tensor drain = at::cat(drain_, 0).mean(0);
    state.value_drain = drain.select(2, 0).contiguous();
    state.value_ratio = drain.select(2, 1).contiguous();
    state.honor = at::cat(honor_, 0).mean(0);
    state.factors = at::cat(factors_, 0).mean(0);
    state.spread = bootstrap(spreads_, options_.seed);
    state.relative_spread = bootstrap(relative_spreads_, options_.seed);
    if (model_.whole()) state.loss = bootstrap(losses_, options_.seed);
    return state;
  }

  const std::vector<double>& relative_spreads() const { return relative_spreads_; }
  const std::vector<double>& losses() const { return losses_; }

 private:
  Site entered(int l) const {
    return l == layers_ ? Site{Part::resid_post, layers_ - 1} : Site{Part::resid_pre, l};
  }

  Plan plan(const std::vector<Intervention>& edits, bool everything) const {
    Plan plan{.interventions = edits, .logits = Logits::none};
    for (int l = 0; l <= layers_; ++l) plan.record.emplace_back(entered(l));
    if (!everything) {
      plan.until = layers_;
      return plan;
    }
    const LogitFactors factors(model_.config());
    for (int l = 0; l < layers_; ++l) {
      plan.record.push_back(
          {Site{Part::pattern, l}, "received", received_by_head(Queries::no_self)});
      plan.record.push_back({Site{Part::pattern, l}, "heads", head_statistics(Queries::no_self)});
      plan.record.push_back({Site{Part::v, l}, "drain", value_drain(model_, l)});
      plan.record.push_back({Site{Part::z, l}, "honor", honor()});
      plan.record.push_back({Site{Part::q, l}, "factors", factors.queries(l)});
      plan.record.push_back({Site{Part::k, l}, "factors", factors.keys(l)});
    }
    if (model_.whole()) plan.record.push_back(record_loss(setting_.inputs.bos ? 1 : 0));
    return plan;
  }

  void keep(const Run& plain, const Run& moved, std::int64_t first, std::int64_t count) {
    const auto of_layers = [&](Part part, const char* label) {
      std::vector<at::Tensor> list;
      for (int l = 0; l < layers_; ++l)
        list.push_back(plain.cache.at({part, l}, label).to(at::kCPU, at::kDouble));
      return at::stack(list, 1);
    };
    sink_.push_back(of_layers(Part::pattern, "received").select(3, 0));
    entropy_.push_back(of_layers(Part::pattern, "heads").select(3, 0));
    drain_.push_back(of_layers(Part::v, "drain"));
    honor_.push_back(of_layers(Part::z, "honor"));
    factors_.push_back(of_layers(Part::k, "factors"));
    if (model_.whole()) {
      const at::Tensor loss = plain.cache.at({Part::logits}, "loss").cpu().contiguous();
      losses_.insert(losses_.end(), loss.data_ptr<double>(), loss.data_ptr<double>() + count);
    }
    for (std::int64_t b = 0; b < count; ++b)
      keep_streams(plain, moved, b, lengths_[static_cast<std::size_t>(first + b)]);
  }

  // Of one sequence, its valid positions.
  void keep_streams(const Run& plain, const Run& moved, std::int64_t b, std::int64_t n) {
    const std::int64_t T = setting_.inputs.length();
    at::Tensor collapse = at::empty({layers_ + 1, 4}, at::kDouble);
    at::Tensor change = at::full({layers_ + 1, T}, std::nan(""), at::kDouble);
    at::Tensor relative = change.clone();
    std::vector<at::Tensor> energy;
    for (int l = 0; l <= layers_; ++l) {
      const at::Tensor before = plain.cache.at(entered(l))[b].narrow(0, 0, n).cpu();
      const at::Tensor after = moved.cache.at(entered(l))[b].narrow(0, 0, n).cpu();
      const Collapse rank = rank_collapse(before);
      const Collapse last = last_rows(before);
      auto* to = collapse.data_ptr<double>() + std::int64_t{l} * 4;
      to[0] = rank.distance;
      to[1] = rank.relative;
      to[2] = last.distance;
      to[3] = last.relative;
      const auto norm = [](const at::Tensor& x) {
        return at::linalg_vector_norm(x, 2, c10::IntArrayRef{-1});
      };
      const at::Tensor moved_by = norm((after - before).to(at::kDouble));
      change[l].narrow(0, 0, n).copy_(moved_by);
      relative[l].narrow(0, 0, n).copy_(moved_by / norm(before.to(at::kDouble)));
      energy.push_back(band_energy(before, directions_, options_.bands));
    }
    collapses_.push_back(collapse);
    energies_.push_back(at::stack(energy));
    changes_.push_back(change);
    relatives_.push_back(relative);
    const auto after_token = [&](const at::Tensor& grid) {
      return grid[layers_].narrow(0, position_ + 1, n - position_ - 1).mean().item<double>();
    };
    spreads_.push_back(after_token(change));
    relative_spreads_.push_back(after_token(relative));
  }

  const Model& model_;
  const Setting& setting_;
  const MixOptions& options_;
  const int layers_;
  const std::int64_t position_;
  const std::vector<std::int64_t>& replacements_;
  const at::Tensor& directions_;
  const std::vector<std::int64_t> lengths_;
  std::vector<at::Tensor> sink_;  // chunks [b, L, H]
  std::vector<at::Tensor> entropy_;
  std::vector<at::Tensor> drain_;
  std::vector<at::Tensor> honor_;
  std::vector<at::Tensor> factors_;
  std::vector<at::Tensor> collapses_;  // sequences [L + 1, 4]
  std::vector<at::Tensor> energies_;
  std::vector<at::Tensor> changes_;  // sequences [L + 1, T]
  std::vector<at::Tensor> relatives_;
  std::vector<double> spreads_;
  std::vector<double> relative_spreads_;
  std::vector<double> losses_;
};

// Mean over later positions of what each component of the sets writes in the plain run, [B, 1, d].
std::map<Component, at::Tensor> ordinary_writes(const Model& model, const Inputs& inputs,
                                                const std::vector<std::vector<Component>>& sets,
                                                std::int64_t& evaluations) {
  Plan plan{.logits = Logits::none, .until = model.config().layers};
  std::map<Component, std::vector<at::Tensor>> parts;
  for (const auto& set : sets) {
    for (const Component component : set) {
      if (!parts.try_emplace(component).second) continue;
      plan.record.push_back({output_site(component), "mean", mean_of_others()});
    }
  }
  std::map<Component, at::Tensor> values;
  if (parts.empty()) return values;
  const std::int64_t chunk = std::max<std::int64_t>(1, positions_per_chunk / inputs.length());
  for (std::int64_t first = 0; first < inputs.tokens.batch(); first += chunk) {
    const std::int64_t count = std::min(chunk, inputs.tokens.batch() - first);
    const Run made = run(model, part_of(inputs.tokens, first, count), plan);
    evaluations += made.evaluations;
    for (auto& [component, list] : parts)
      list.push_back(made.cache.at(output_site(component), "mean"));
  }
  for (const auto& [component, list] : parts) values[component] = at::cat(list, 0);
  return values;
}

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
  const std::int64_t shortest = std::ranges::min(lengths_of(inputs.tokens));
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
  const auto values = ordinary_writes(model, inputs, sets, report.evaluations);

  std::vector<Setting> settings;
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
    settings.push_back(
        {.name = to_string(set),
         .inputs = inputs,
         .edits = [&values, set](std::int64_t first, std::int64_t count, std::int64_t) {
           std::vector<Intervention> edits;
           for (const Component component : set) {
             edits.push_back({.site = output_site(component),
                              .where = {.positions = {0}},
                              .edit = Put{values.at(component).narrow(0, first, count)}});
           }
           return edits;
         }});
  }

  const at::Tensor directions =
      model.whole() ? unembedding_directions(model).cpu()
                    : at::eye(model.config().d_model, at::TensorOptions().dtype(at::kDouble));
  std::vector<double> plain_spreads;
  std::vector<double> plain_losses;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const Setting& setting = settings[i];
    const auto tell = [&](double done) {
      if (!progress) return;
      progress("measuring " + setting.name,
               (static_cast<double>(i) + done) / static_cast<double>(settings.size()));
    };
    Measurement measurement(model, setting, options, position - (setting.shifted ? 1 : 0),
                            replacements, directions);
    report.evaluations += measurement.run_all(tell);
    MixState state = measurement.state();
    if (i == 0) {
      plain_spreads = measurement.relative_spreads();
      plain_losses = measurement.losses();
    }
    state.spread_change = paired(measurement.relative_spreads(), plain_spreads, options.seed);
    if (model.whole()) {
      state.loss_change = paired(measurement.losses(), plain_losses, options.seed);
    } else {
      constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
      state.loss = state.loss_change = {unknown, unknown, unknown};
    }
    const std::vector<std::int64_t> lengths = lengths_of(setting.inputs.tokens);
    for (std::int64_t b = 0; b < std::min(options.jacobian_sequences, B); ++b) {
      if (progress) progress("pulling back through " + setting.name, 0.0);
      const std::int64_t T = std::min(lengths[static_cast<std::size_t>(b)],
                                      options.jacobian_length - (setting.shifted ? 1 : 0));
      if (T < 2) continue;
      state.reach.push_back(measure_reach(
          model, setting.inputs.tokens.ids.narrow(0, b, 1).narrow(1, 0, T).contiguous(),
          setting.edits(b, 1, T), options.probes, options.seed + static_cast<std::uint64_t>(b)));
    }
    report.states.push_back(std::move(state));
  }
  return report;
}

}  // namespace plumb
