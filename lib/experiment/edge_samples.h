// The gradient methods for edges, over one tile of pairs.
#pragma once

#include <ATen/core/Tensor.h>

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

/// What a tile gives.
struct EdgeTile {
  at::Tensor sums = {};     ///< float64 [1 or b or T, edges]: scores, summed over pairs or each
  at::Tensor clean = {};    ///< [b] float64: the metric
  at::Tensor corrupt = {};  ///< [b]
  std::int64_t evaluations = 0;
  std::int64_t backwards = 0;
};

/// `first`: number of the tile's first pair. Calls `step` after each run with a gradient.
EdgeTile score_tile(const Model& model, const Pairs& pairs, std::int64_t first,
                    const Metric& metric, const EdgeOptions& options,
                    const std::function<void()>& step);

}  // namespace plumb
