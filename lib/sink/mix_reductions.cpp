#include "sink/mix_reductions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "core/precision.h"

namespace plumb {
namespace {

// [b, T, 1]: 1 where a position is valid.
at::Tensor valid(const Tile& tile, std::int64_t T, const at::TensorOptions& options) {
  const at::Tensor index = at::arange(T, tile.lengths.options()).unsqueeze(0);
  return (index < tile.lengths.unsqueeze(1)).to(options).unsqueeze(2);
}

at::Tensor norms(const at::Tensor& x) { return at::linalg_vector_norm(x, 2, c10::IntArrayRef{-1}); }

// x [b, T, H] at position 0 over its mean over valid positions.
at::Tensor first_over_mean(const at::Tensor& x, const at::Tensor& valid) {
  return x.select(1, 0) / ((x * valid).sum(1) / valid.sum(1));
}

// Key heads as often as query heads read them.
at::Tensor for_heads(const at::Tensor& of_key_heads, const ModelConfig& config) {
  const std::int64_t G = config.heads / config.kv_heads;
  return G == 1 ? of_key_heads : of_key_heads.repeat_interleave(G, 2);
}

}  // namespace

Reduce value_drain(const Model& model, int layer) {
  const ModelConfig config = model.config();
  const at::Tensor out = widened(model.weight(Weight::out, layer))
                             .view({config.d_model, config.heads, config.d_head})
                             .transpose(0, 1);
  const at::Tensor gram = out.transpose(1, 2).matmul(out);  // [H, d_head, d_head]
  return [config, gram](const at::Tensor& value, const Tile& tile) {
    const at::Tensor v = for_heads(widened(value), config);
    const at::Tensor weight = valid(tile, v.size(1), v.options());
    const at::Tensor by_head = v.permute({2, 0, 1, 3});  // [H, b, T, d_head]
    const at::Tensor written = (by_head.matmul(gram.unsqueeze(1)) * by_head)
                                   .sum(3)
                                   .clamp_min(0.0)
                                   .sqrt()
                                   .permute({1, 2, 0});
    return at::stack({first_over_mean(written, weight), first_over_mean(norms(v), weight)}, 2);
  };
}

Reduce honor() {
  return [](const at::Tensor& z, const Tile& tile) {
    const at::Tensor length = norms(widened(z));
    const at::Tensor weight = valid(tile, z.size(1), length.options());
    const at::Tensor mean = (length * weight).sum(1) / weight.sum(1);
    return mean / mean.mean(1, true);
  };
}

struct LogitFactors::Held {
  std::mutex lock;
  std::map<std::pair<int, std::int64_t>, at::Tensor> queries;  // by layer and first sequence
};

LogitFactors::LogitFactors(const ModelConfig& config)
    : held_(std::make_shared<Held>()),
      factor_(config.attention_scale > 0.0 ? config.attention_scale
                                           : 1.0 / std::sqrt(static_cast<double>(config.d_head))) {}

Reduce LogitFactors::queries(int layer) const {
  return [held = held_, layer](const at::Tensor& q, const Tile& tile) {
    const std::lock_guard guard(held->lock);
    held->queries[{layer, tile.first}] = q;
    return q.new_zeros({q.size(0), 0});
  };
}

Reduce LogitFactors::keys(int layer) const {
  return [held = held_, layer, factor = factor_](const at::Tensor& keys, const Tile& tile) {
    at::Tensor q;
    {
      const std::lock_guard guard(held->lock);
      const auto found = held->queries.find({layer, tile.first});
      q = widened(found->second);
      held->queries.erase(found);
    }
    const std::int64_t H = q.size(2);
    const std::int64_t G = H / keys.size(2);
    const at::Tensor wide = widened(keys);
    const at::Tensor k = G == 1 ? wide : wide.repeat_interleave(G, 2);
    // Queries after position 0, and for each the sum over the keys from 1 up to its own.
    at::Tensor counted = valid(tile, q.size(1), q.options()).clone();
    counted.select(1, 0).fill_(0.0);
    const at::Tensor queries = counted.sum(1).clamp_min(1.0);
    const at::Tensor seen = counted.cumsum(1);
    const at::Tensor pairs = (seen * counted).sum(1).clamp_min(1.0);
    const auto over_queries = [&](const at::Tensor& x) { return (x * counted).sum(1) / queries; };
    const auto over_pairs = [&](const at::Tensor& of_queries, const at::Tensor& of_keys) {
      const at::Tensor sums = (of_keys * counted.unsqueeze(3)).cumsum(1);
      return ((of_queries * sums).sum(3) * counted).sum(1) / pairs;
    };
    constexpr double tiny = 1e-30;  // a key of zeros has no direction
    const at::Tensor q_norm = norms(q);
    const at::Tensor k_norm = norms(k);
    const at::Tensor q_unit = q / q_norm.clamp_min(tiny).unsqueeze(3);
    const at::Tensor k_unit = k / k_norm.clamp_min(tiny).unsqueeze(3);
    const auto with_first = [&](const at::Tensor& a, const at::Tensor& b) {
      return over_queries((a * b.narrow(1, 0, 1)).sum(3));
    };
    return at::stack({over_queries(q_norm), k_norm.select(1, 0), over_queries(k_norm),
                      with_first(q_unit, k_unit), over_pairs(q_unit, k_unit),
                      with_first(q, k) * factor, over_pairs(q, k) * factor},
                     2);
  };
}

at::Tensor unembedding_directions(const Model& model) {
  const at::Tensor table = model.weight(Weight::unembed);
  constexpr std::int64_t rows_at_once = 4096;
  at::Tensor gram = at::zeros({table.size(1), table.size(1)}, table.options().dtype(at::kDouble));
  for (std::int64_t first = 0; first < table.size(0); first += rows_at_once) {
    const at::Tensor rows =
        table.narrow(0, first, std::min(rows_at_once, table.size(0) - first)).to(at::kDouble);
    gram.addmm_(rows.t(), rows);
  }
  return std::get<1>(at::linalg_eigh(gram)).flip(1);
}

Collapse rank_collapse(const at::Tensor& stream) {
  const at::Tensor V = stream.to(at::kDouble);
  const auto distance = (V - V.mean(0, true)).norm().item<double>();
  return {distance, distance / V.norm().item<double>()};
}

Collapse last_rows(const at::Tensor& stream) {
  const at::Tensor last = stream.narrow(0, stream.size(0) - 2, 2).to(at::kDouble);
  const auto distance = (last[1] - last[0]).norm().item<double>();
  return {distance, distance / norms(last).mean().item<double>()};
}

at::Tensor band_energy(const at::Tensor& stream, const at::Tensor& directions, std::int64_t bands) {
  const at::Tensor h = stream.to(at::kDouble);
  const at::Tensor parts = h.matmul(directions).square();
  const at::Tensor whole = h.square().sum(1, true);
  std::vector<at::Tensor> shares;
  for (std::int64_t band = 0; band < bands; ++band) {
    const std::int64_t from = band * parts.size(1) / bands;
    const std::int64_t to = (band + 1) * parts.size(1) / bands;
    shares.push_back(parts.narrow(1, from, to - from).sum(1, true) / whole);
  }
  const at::Tensor each = at::cat(shares, 1);  // [T, bands]
  return at::stack({each[0], each.narrow(0, 1, each.size(0) - 1).mean(0)});
}

}  // namespace plumb
