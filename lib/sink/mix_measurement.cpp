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
                               const at::Tensor& directions, const MixMeasurement* plain)
    : model_(model),
      setting_(setting),
      options_(options),
      layers_(model.config().layers),
      position_(position),
      replacements_(replacements),
      directions_(directions),
      lengths_(token_counts(setting.inputs.tokens)),
      plain_(plain) {}

void MixMeasurement::keep_for_others(const std::set<int>& blocks,
                                     const std::set<Component>& components) {
  blocks_ = blocks;
  components_ = components;
}

at::Tensor MixMeasurement::ordinary_write(Component component) const {
  return at::cat(writes_.at(component), 0);
}

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
    const std::size_t index = sink_.size();
    const Run plain = run(model_, part, plan(edits, true, index));
    tell((static_cast<double>(first) + 0.5 * static_cast<double>(count)) /
         static_cast<double>(tokens.batch()));
    Tokens changed = part;
    changed.ids = part.ids.clone();
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int64_t old = part.ids[b][position_].item<std::int64_t>();
      const std::int64_t other = replacements_[static_cast<std::size_t>(first + b)];
      changed.ids[b][position_].fill_(other == old ? (other + 1) % model_.config().vocab : other);
    }
    const Run moved = run(model_, changed, plan(edits, false, index));
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
  state.rival = at::cat(rival_, 0).mean(0);
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

Plan MixMeasurement::plan(const std::vector<Intervention>& edits, bool everything,
                          std::size_t chunk) const {
  Plan plan{.interventions = edits, .logits = Logits::none};
  const int from = setting_.first_edited;
  if (from > 0) {
    const auto& [same, moved] = plain_->streams_.at(from)[chunk];
    plan.restart = Restart{from, everything ? same : moved};
  }
  for (int l = from; l <= layers_; ++l) plan.record.emplace_back(entered(l));
  if (!everything) {
    plan.until = layers_;
    return plan;
  }
  const LogitFactors factors(model_.config());
  for (int l = from; l < layers_; ++l) {
    plan.record.push_back({Site{Part::pattern, l}, "received", received_by_head(Queries::no_self)});
    plan.record.push_back({Site{Part::pattern, l}, "heads", head_statistics(Queries::no_self)});
    plan.record.push_back({Site{Part::v, l}, "drain", value_drain(model_, l)});
    plan.record.push_back({Site{Part::z, l}, "honor", honor()});
    plan.record.push_back({Site{Part::q, l}, "factors", factors.queries(l)});
    plan.record.push_back({Site{Part::k, l}, "factors", factors.keys(l)});
  }
  for (const Component component : components_)
    plan.record.push_back({output_site(component), "mean", mean_of_others()});
  if (model_.whole()) plan.record.push_back(record_loss(setting_.inputs.bos ? 1 : 0));
  return plan;
}

void MixMeasurement::keep(const Run& plain, const Run& moved, std::int64_t first,
                          std::int64_t count) {
  const int from = setting_.first_edited;
  const std::size_t chunk = sink_.size();
  // Of the blocks that were run; those before them come of the plain measurement.
  const auto of_layers = [&](Part part, const char* label,
                             std::vector<at::Tensor> MixMeasurement::*list,
                             const std::function<at::Tensor(const at::Tensor&)>& read) {
    std::vector<at::Tensor> layers;
    for (int l = 0; l < layers_; ++l) {
      layers.push_back(l < from ? (plain_->*list)[chunk].select(1, l)
                                : read(plain.cache.at({part, l}, label).to(at::kCPU, at::kDouble)));
    }
    (this->*list).push_back(at::stack(layers, 1));
  };
  const auto itself = [](const at::Tensor& value) { return value; };
  of_layers(Part::pattern, "received", &MixMeasurement::rival_, [&](const at::Tensor& received) {
    const at::Tensor by_key = received.mean(1);  // [b, T]
    std::vector<at::Tensor> most;
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int64_t n = lengths_[static_cast<std::size_t>(first + b)];
      most.push_back(by_key[b].narrow(0, 1, std::max<std::int64_t>(1, n / 2)).max());
    }
    return at::stack(most);
  });
  of_layers(Part::pattern, "received", &MixMeasurement::sink_,
            [](const at::Tensor& received) { return received.select(2, 0); });
  of_layers(Part::pattern, "heads", &MixMeasurement::entropy_,
            [](const at::Tensor& heads) { return heads.select(2, 0); });
  of_layers(Part::v, "drain", &MixMeasurement::drain_, itself);
  of_layers(Part::z, "honor", &MixMeasurement::honor_, itself);
  of_layers(Part::k, "factors", &MixMeasurement::factors_, itself);
  for (const int block : blocks_) {
    const Site site = entered(block);
    streams_[block].emplace_back(plain.cache.at(site), moved.cache.at(site));
  }
  for (const Component component : components_)
    writes_[component].push_back(plain.cache.at(output_site(component), "mean"));
  if (model_.whole()) {
    const at::Tensor loss = plain.cache.at({Part::logits}, "loss").cpu().contiguous();
    losses_.insert(losses_.end(), loss.data_ptr<double>(), loss.data_ptr<double>() + count);
  }
  for (std::int64_t b = 0; b < count; ++b)
    keep_streams(plain, moved, b, lengths_[static_cast<std::size_t>(first + b)],
                 static_cast<std::size_t>(first + b));
}

void MixMeasurement::keep_streams(const Run& plain, const Run& moved, std::int64_t b,
                                  std::int64_t n, std::size_t index) {
  const std::int64_t T = setting_.inputs.length();
  at::Tensor collapse = at::empty({layers_ + 1, 4}, at::kDouble);
  at::Tensor change = at::full({layers_ + 1, T}, std::nan(""), at::kDouble);
  at::Tensor relative = change.clone();
  std::vector<at::Tensor> energy;
  for (int l = 0; l < setting_.first_edited; ++l) {
    collapse[l].copy_(plain_->collapses_[index][l]);
    change[l].copy_(plain_->changes_[index][l]);
    relative[l].copy_(plain_->relatives_[index][l]);
    energy.push_back(plain_->energies_[index][l]);
  }
  for (int l = setting_.first_edited; l <= layers_; ++l) {
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
