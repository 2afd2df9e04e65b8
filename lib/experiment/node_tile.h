// The methods for nodes, over one tile of pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "experiment/node_sums.h"
#include "plumb/attribute_nodes.h"

namespace plumb {

/// What a tile gives.
struct NodeTile {
  std::vector<NodeSums> sweeps = {};
  at::Tensor clean = {};    ///< [b] float64: the metric
  at::Tensor corrupt = {};  ///< [b]
  std::int64_t evaluations = 0;
  std::int64_t backwards = 0;
};

/// How often a tile calls `step`.
std::int64_t node_steps(const ModelConfig& config, int depth, const std::vector<SweepSpec>& nodes,
                        const NodeOptions& options);

/// `first`: number of the tile's first pair.
NodeTile score_nodes(const Model& model, const Pairs& pairs, std::int64_t first,
                     const std::vector<SweepSpec>& nodes, const Metric& metric,
                     const NodeOptions& options, const std::function<void()>& step);

}  // namespace plumb
