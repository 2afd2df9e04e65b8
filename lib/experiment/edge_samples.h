// The gradient methods for edges, over one tile of pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "experiment/attribute_back.h"
#include "experiment/attribute_metric.h"
#include "experiment/attribute_tile.h"
#include "experiment/edge_contract.h"
#include "plumb/attribute.h"

namespace plumb {

/// Shares of the clean value, and the weight of each, which sum to 1.
struct IgPoint {
  double clean = 1.0;
  double weight = 1.0;
};
std::vector<IgPoint> ig_points(IgPoints points, int steps);

/// Runs with a gradient that the method takes for each pair: token embeddings, activations.
std::int64_t samples_of(const EdgeOptions& options, int depth);

/// How pairs are cut into tiles: as a run cuts them, but of no more positions than a pair has or
/// `rows_of_gradients`. What a tile holds of each layer is held until its backward pass is done.
inline constexpr std::int64_t rows_of_gradients = 128;
class GradientTiling {
 public:
  GradientTiling(std::int64_t pairs, std::int64_t length);
  std::int64_t size() const { return size_; }  ///< pairs of every tile but the last
  std::int64_t count() const { return (pairs_ + size_ - 1) / size_; }
  std::int64_t first(std::int64_t tile) const { return tile * size_; }
  std::int64_t pairs(std::int64_t tile) const { return std::min(size_, pairs_ - first(tile)); }

 private:
  std::int64_t pairs_;
  std::int64_t size_;
};

/// What a tile gives.
struct EdgeTile {
  /// float64: scores of each pair [b, edges], or summed over pairs [1, edges], or over those of
  /// each position [T, edges].
  at::Tensor sums = {};
  at::Tensor clean = {};    ///< [b] float64: the metric
  at::Tensor corrupt = {};  ///< [b]
  std::int64_t evaluations = 0;
  std::int64_t backwards = 0;
};

/// Scores of each pair, or by position. `first`: number of the tile's first pair. Calls `step`
/// after each run with a gradient.
EdgeTile score_tile(const Model& model, const Pairs& pairs, std::int64_t first,
                    const Metric& metric, const EdgeOptions& options,
                    const std::function<void()>& step);

}  // namespace plumb
