#include "experiment/edge_outside.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <map>

#include "core/precision.h"
#include "experiment/patch_metric.h"
#include "experiment/replacements.h"

namespace plumb {
namespace {

// Numbers of the writes of all senders that one run holds at once.
constexpr std::int64_t tile_numbers = 32'000'000;

Site heads_site(const ModelConfig& config, int layer) {
  return {keeps_z(config) ? Part::z : Part::head_out, layer};
}

Tokens some_tokens(const Tokens& tokens, std::int64_t first, std::int64_t count) {
  return {
      .ids = tokens.ids.narrow(0, first, count),
      .lengths = tokens.lengths.defined() ? tokens.lengths.narrow(0, first, count) : tokens.lengths,
      .positions = tokens.positions};
}

void each_write(OutsideValues& values, const ModelConfig& config,
                const std::function<at::Tensor(Site)>& value) {
  values.input = value({Part::embed});
  for (int layer = 0; layer < config.layers; ++layer) {
    values.heads.push_back(value(heads_site(config, layer)));
    values.mlps.push_back(value({Part::mlp_out, layer}));
  }
}

std::vector<Record> write_records(const ModelConfig& config) {
  std::vector<Record> records = {Record(Site{Part::embed})};
  for (int layer = 0; layer < config.layers; ++layer) {
    records.emplace_back(heads_site(config, layer));
    records.emplace_back(Site{Part::mlp_out, layer});
  }
  return records;
}

// [B, T, 1, ...]: 1 where the sequence has a token, in the type of the value's sums.
at::Tensor valid(const at::Tensor& value, const at::Tensor& lengths) {
  const at::Tensor place = at::arange(value.size(1), lengths.options()).unsqueeze(0);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(value.dim()), 1);
  shape[0] = value.size(0);
  shape[1] = value.size(1);
  return (place < lengths.unsqueeze(1)).view(shape);
}

at::Tensor kept(const at::Tensor& value, const at::Tensor& mask) {
  const at::Tensor wide = value.to(at::kDouble);
  return at::where(mask, wide, at::zeros({1}, wide.options()));
}

}  // namespace

bool keeps_z(const ModelConfig& config) { return config.norm_place == NormPlace::before; }

std::int64_t edge_tile(const ModelConfig& config, std::int64_t length) {
  const std::int64_t senders = 1 + std::int64_t{config.layers} * (config.heads + 1);
  return std::max<std::int64_t>(1, tile_numbers / (senders * length * config.d_model));
}

Outside::Outside(const Model& model, const Pairs& pairs, const Replacement& replacement)
    : model_(model), pairs_(pairs), replacement_(replacement) {
  using enum ReplacementKind;
  if (replacement.kind == resample)
    donors_ = donors(replacement.seed, lengths_of(pairs, Which::clean));
  if (replacement.kind == mean || replacement.kind == mean_batch) make_means();
}

std::vector<Record> Outside::records() const {
  using enum ReplacementKind;
  const ModelConfig& config = model_.config();
  if (replacement_.kind == other || replacement_.kind == resample)
    return {Record(Site{Part::embed})};
  std::vector<Record> records = {Record(Site{Part::embed})};
  if (replacement_.kind == mean_position) records = write_records(config);
  if (config.positions == Positions::learned) records.emplace_back(Site{Part::pos_embed});
  if (!keeps_z(config) && config.out_bias) {
    for (int layer = 0; layer < config.layers; ++layer)
      records.emplace_back(Site{Part::ln1_post_scale, layer});
  }
  return records;
}

OutsideValues Outside::of_run(const Tokens& tokens, std::int64_t from,
                              std::int64_t& evaluations) const {
  const ModelConfig& config = model_.config();
  Plan plan{.record = write_records(config), .logits = Logits::none};
  for (int layer = 0; layer < config.layers; ++layer) {
    plan.record.emplace_back(Site{Part::resid_pre, layer});
    plan.record.emplace_back(Site{Part::resid_mid, layer});
  }
  plan.record.emplace_back(Site{Part::resid_final});
  Slice past;
  for (std::int64_t t = 0; t < from; ++t) past.positions.push_back(t);
  for (int layer = 0; layer < (from > 0 ? config.layers : 0); ++layer) {
    plan.record.emplace_back(Site{Part::k, layer}, past);
    plan.record.emplace_back(Site{Part::v, layer}, past);
  }
  const Run made = run(model_, tokens, plan);
  evaluations += made.evaluations;
  OutsideValues values;
  each_write(values, config, [&](Site site) { return made.cache.at(site); });
  for (int layer = 0; layer < config.layers; ++layer) {
    values.pre.push_back(made.cache.at({Part::resid_pre, layer}));
    values.mid.push_back(made.cache.at({Part::resid_mid, layer}));
    if (from == 0) continue;
    values.past_k.push_back(made.cache.at({Part::k, layer}));
    values.past_v.push_back(made.cache.at({Part::v, layer}));
  }
  values.pre.push_back(made.cache.at({Part::resid_final}));
  return values;
}

// Sums over all pairs, tile by tile, of the valid positions.
void Outside::make_means() {
  const ModelConfig& config = model_.config();
  const bool by_position = replacement_.kind == ReplacementKind::mean_batch;
  const std::int64_t B = pairs_.count();
  const std::int64_t step = edge_tile(config, pairs_.length());
  const at::Tensor lengths = lengths_of(pairs_, Which::clean).to(model_.device());
  std::map<Site, at::Tensor> sums;
  const Plan plan{.record = write_records(config), .logits = Logits::none};
  std::vector<std::int64_t> over = {0};
  if (!by_position) over.push_back(1);
  for (std::int64_t first = 0; first < B; first += step) {
    const std::int64_t count = std::min(step, B - first);
    const Run made = run(model_, some_tokens(pairs_.clean, first, count), plan);
    evaluations_ += made.evaluations;
    for (const Record& record : plan.record) {
      const at::Tensor& value = made.cache.at(record.site);
      const at::Tensor mask = valid(value, lengths.narrow(0, first, count));
      at::Tensor& sum = sums[record.site];
      const at::Tensor part = kept(value, mask).sum(over, true);
      sum = sum.defined() ? sum + part : part;
    }
  }
  each_write(means_, config, [&](Site site) {
    const at::Tensor& sum = sums.at(site);
    const at::Tensor places = at::arange(pairs_.length(), lengths.options()).unsqueeze(0);
    at::Tensor number = (places < lengths.unsqueeze(1)).to(at::kDouble).sum(0);  // [T]
    std::vector<std::int64_t> shape(static_cast<std::size_t>(sum.dim()), 1);
    if (by_position) {
      shape[1] = number.size(0);
    } else {
      number = number.sum();
    }
    return (sum / number.view(shape)).to(model_.dtype());
  });
}

// The streams that the replacements alone make: position embeddings and the biases of attention
// with them.
void Outside::add_streams(OutsideValues& values, const Cache& clean) const {
  const ModelConfig& config = model_.config();
  const at::Tensor& like = clean.at({Part::embed});
  at::Tensor stream = values.input.expand_as(like);
  if (config.positions == Positions::learned) stream = stream + clean.at({Part::pos_embed});
  for (int layer = 0; layer < config.layers; ++layer) {
    const at::Tensor& heads = values.heads[static_cast<std::size_t>(layer)];
    values.pre.push_back(stream);
    if (keeps_z(config)) {
      stream = stream + at::linear(heads.flatten(2), model_.weight(Weight::out, layer));
    } else {
      stream = stream + heads.sum(2);
    }
    if (const at::Tensor bias = model_.weight(Weight::out_bias, layer); bias.defined()) {
      at::Tensor share = bias;
      if (!keeps_z(config)) {
        share = bias * clean.at({Part::ln1_post_scale, layer});
        if (const at::Tensor gain = model_.weight(Weight::ln1_post, layer); gain.defined())
          share = share * gain;
      }
      stream = (stream + share).to(like.scalar_type());
    }
    values.mid.push_back(stream);
    stream = stream + values.mlps[static_cast<std::size_t>(layer)];
  }
  values.pre.push_back(stream);
}

OutsideValues Outside::values(std::int64_t first, std::int64_t count, const Cache& clean,
                              std::int64_t from, std::int64_t& evaluations) const {
  using enum ReplacementKind;
  const ModelConfig& config = model_.config();
  if (replacement_.kind == other)
    return of_run(some_tokens(pairs_.corrupt, first, count), from, evaluations);
  if (replacement_.kind == resample) {
    const at::Tensor from = donors_.narrow(0, first, count);
    Tokens tokens = pairs_.clean;
    tokens.ids = tokens.ids.index_select(0, from);
    if (tokens.lengths.defined()) tokens.lengths = tokens.lengths.index_select(0, from);
    return of_run(tokens, 0, evaluations);
  }
  OutsideValues values;
  if (replacement_.kind == zero) {
    const at::Tensor& embed = clean.at({Part::embed});
    const std::int64_t width = keeps_z(config) ? config.d_head : config.d_model;
    each_write(values, config, [&](Site site) {
      return site.part == Part::z || site.part == Part::head_out
                 ? at::zeros({1, 1, config.heads, width}, embed.options())
                 : at::zeros({1, 1, config.d_model}, embed.options());
    });
  } else if (replacement_.kind == mean_position) {
    const at::Tensor lengths =
        lengths_of(pairs_, Which::clean).narrow(0, first, count).to(model_.device());
    each_write(values, config, [&](Site site) {
      const at::Tensor& value = clean.at(site);
      const at::Tensor mask = valid(value, lengths);
      return (kept(value, mask).sum(1, true) / mask.to(at::kDouble).sum(1, true))
          .to(value.scalar_type());
    });
  } else {
    values = means_;
  }
  add_streams(values, clean);
  return values;
}

}  // namespace plumb
