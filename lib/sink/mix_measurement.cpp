#include "sink/mix_measurement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "plumb/sink.h"
#include "sink/mix_reductions.h"
#include "sink/reductions.h"

namespace plumb {

std::vector<std::int64_t> token_counts(const Tokens& tokens) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(tokens.batch()), tokens.length());
  if (tokens.lengths.defined()) {
    for (std::int64_t b = 0; b < tokens.batch(); ++b)
      lengths[static_cast<std::size_t>(b)] = tokens.lengths[b].item<std::int64_t>();
  }
  return lengths;
}

Tokens tokens_between(const Tokens& tokens, std::int64_t first, std::int64_t count) {
  Tokens part{.ids = tokens.ids.narrow(0, first, count), .positions = tokens.positions};
  if (tokens.lengths.defined()) part.lengths = tokens.lengths.narrow(0, first, count);
  return part;
}

MixMeasurement::MixMeasurement(const Model& model, const MixSetting& setting,
                               const MixOptions& options, std::int64_t position,
                               const std::vector<std::int64_t>& replacements,
                               const at::Tensor& directions)
    : model_(model),
      setting_(setting),
      options_(options),
      layers_(model.config().layers),
      position_(position),
      replacements_(replacements),
      directions_(directions),
      lengths_(token_counts(setting.inputs.tokens)) {}

std::int64_t MixMeasurement::run_all(const std::function<void(double)>& tell) {
  const Tokens& tokens = setting_.inputs.tokens;
  const std::int64_t T = tokens.length();
  const std::int64_t chunk = std::max<std::int64_t>(1, mix_positions_at_once / T);
  std::int64_t evaluations = 0;
  for (std::int64_t first = 0; first < tokens.batch(); first += chunk) {
    tell(static_cast<double>(first) / static_cast<double>(tokens.batch()));
    const std::int64_t count = std::min(chunk, tokens.batch() - first);
    const std::vector<Intervention> edits = setting_.edits(first, count, T);
    const Tokens part = tokens_between(tokens, first, count);
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

MixState MixMeasurement::state() const {
  MixState state{.name = setting_.name, .length = setting_.inputs.length(), .position = position_};
  const auto mean = [](const std::vector<at::Tensor>& list) { return at::stack(list).mean(0); };
  const at::Tensor pairs = mean(collapses_);  // [L + 1, 4]
  state.rank_distance = pairs.select(1, 0).contiguous();
  state.rank_collapse = pairs.select(1, 1).contiguous();
  state.last_distance = pairs.select(1, 2).contiguous();
  state.last_relative = pairs.select(1, 3).contiguous();
  state.energy = mean(energies_);
  state.change = at::nanmean(at::stack(changes_), c10::IntArrayRef{0});
  state.relative = at::nanmean(at::stack(relatives_), c10::IntArrayRef{0});
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

Site MixMeasurement::entered(int l) const {
  return l == layers_ ? Site{Part::resid_post, layers_ - 1} : Site{Part::resid_pre, l};
}

Plan MixMeasurement::plan(const std::vector<Intervention>& edits, bool everything) const {
  Plan plan{.interventions = edits, .logits = Logits::none};
  for (int l = 0; l <= layers_; ++l) plan.record.emplace_back(entered(l));
  if (!everything) {
    plan.until = layers_;
    return plan;
  }
  const LogitFactors factors(model_.config());
  for (int l = 0; l < layers_; ++l) {
    plan.record.push_back({Site{Part::pattern, l}, "received", received_by_head(Queries::no_self)});
    plan.record.push_back({Site{Part::pattern, l}, "heads", head_statistics(Queries::no_self)});
    plan.record.push_back({Site{Part::v, l}, "drain", value_drain(model_, l)});
    plan.record.push_back({Site{Part::z, l}, "honor", honor()});
    plan.record.push_back({Site{Part::q, l}, "factors", factors.queries(l)});
    plan.record.push_back({Site{Part::k, l}, "factors", factors.keys(l)});
  }
  if (model_.whole()) plan.record.push_back(record_loss(setting_.inputs.bos ? 1 : 0));
  return plan;
}

void MixMeasurement::keep(const Run& plain, const Run& moved, std::int64_t first,
                          std::int64_t count) {
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

void MixMeasurement::keep_streams(const Run& plain, const Run& moved, std::int64_t b,
                                  std::int64_t n) {
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

}  // namespace plumb
