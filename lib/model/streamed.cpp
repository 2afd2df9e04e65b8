#include "plumb/streamed.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace plumb {

at::Tensor ReceivedAttention::weights(const at::Tensor& lengths, std::int64_t T,
                                      const at::TensorOptions& options) const {
  const at::Tensor index = at::arange(T, lengths.options());
  const at::Tensor query = index.view({1, T, 1});
  const at::Tensor key = index.view({1, 1, T});
  const at::Tensor chosen = queries(lengths, T)
                                .to(at::kBool)
                                .unsqueeze(2)
                                .logical_and(key < lengths.view({-1, 1, 1}))
                                .logical_and(own ? query >= key : query > key);
  const at::Tensor counted = chosen.to(options);
  return counted / counted.sum(1, true).clamp_min(1.0);
}

at::Tensor ReceivedAttention::operator()(const at::Tensor& pattern, const Tile& tile) const {
  const at::Tensor each = weights(tile.lengths, pattern.size(3), pattern.options());
  return (pattern * each.unsqueeze(1)).sum(2);
}

at::Tensor AttentionRows::operator()(const at::Tensor& pattern, const Tile& tile) const {
  const at::Tensor entropy = at::xlogy(pattern, pattern).sum(3).neg();
  const auto [top, key] = pattern.max(3);
  return then(at::stack({pattern.select(3, 0), entropy, key.to(pattern.options()), top}, 2), tile);
}

at::Tensor LogSumExp::operator()(const at::Tensor& scores, const Tile& tile) const {
  return then(scores.logsumexp({3}), tile);
}

at::Tensor EachPosition::operator()(const at::Tensor& logits, const Tile& tile) const {
  return then(at(logits, ids_from(tile.ids, 0, logits.size(1))), tile);
}

at::Tensor ids_from(const at::Tensor& ids, std::int64_t first, std::int64_t count) {
  const std::int64_t there = std::min(count + 1, ids.size(1) - first);
  const at::Tensor part = ids.narrow(1, first, there);
  return there == count + 1 ? part : at::constant_pad_nd(part, {0, count + 1 - there});
}

}  // namespace plumb
