// Estimates of the nodes of one block, pair by pair, and their sums over pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/config.h"
#include "plumb/patch.h"

namespace plumb {

/// Of a contribution to the metric from each entry of a site [b, ...], what each node of the spec
/// has: float64 [b, nodes], the spec's axes but the layer flattened in their order. An axis may
/// have size 1 where its sum has been taken.
at::Tensor by_node(const at::Tensor& contribution, const SweepSpec& spec);

/// Nodes of one layer.
std::int64_t nodes_of_layer(const SweepSpec& spec, const ModelConfig& config, std::int64_t T);

/// Estimates for the nodes of one spec in one block, [b, nodes] each.
class NodeEstimates {
 public:
  /// Adds to the estimate that counts.
  void add(const at::Tensor& estimate, double weight = 1.0);
  /// Adds to the magnitude: an estimate of GradDrop, so many times.
  void drop(const at::Tensor& estimate, std::int64_t times);
  /// One of those whose range is the doubt.
  void consider(const at::Tensor& estimate);

  bool empty() const { return !effect_.defined(); }
  const at::Tensor& effect() const { return effect_; }
  /// Absolute, by GradDrop where there were any.
  at::Tensor magnitude() const;
  at::Tensor doubt() const;

 private:
  at::Tensor effect_ = {};
  at::Tensor dropped_ = {};
  std::int64_t drops_ = 0;
  at::Tensor low_ = {};
  at::Tensor high_ = {};
};

/// Sums over the pairs of a tile, or several: float64 [layers, nodes of a layer], NaN where a layer
/// has no such site.
struct NodeSums {
  at::Tensor effects = {};
  at::Tensor magnitudes = {};
  at::Tensor doubts = {};
  at::Tensor each = {};  ///< [layers, nodes, b], where they are kept
};
/// 0 in every layer that has the site.
NodeSums no_sums(const SweepSpec& spec, const ModelConfig& config, std::int64_t T,
                 std::int64_t pairs, bool each);
void put(NodeSums& sums, int layer, const NodeEstimates& estimates);

}  // namespace plumb
