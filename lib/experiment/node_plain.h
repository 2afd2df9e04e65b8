// The base run and the other run of a tile of pairs, block by block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "experiment/attribute_metric.h"
#include "experiment/attribute_tile.h"
#include "plumb/patch.h"

namespace plumb {

class NodePlain {
 public:
  /// Runs both. `metric` is told what to compare with.
  NodePlain(const Model& model, const Pairs& pairs, TileMetric& metric, Direction direction);

  const TileModel& base() const { return base_; }
  Which which() const { return which_; }  ///< the base run
  /// Streams [b, T, d_model] that enter each block, and the one that leaves the last.
  const std::vector<at::Tensor>& streams() const { return streams_; }
  const at::Tensor& clean() const { return clean_; }  ///< [b] float64: the metric
  const at::Tensor& corrupt() const { return corrupt_; }

  using Values = std::map<Part, at::Tensor>;
  /// What sites of a block hold in the other run, at the base run's positions; where nothing
  /// belongs there, the base run's own values `own`.
  Values others(int layer, const Values& own) const;
  /// The base run's stream that enters block 0 with its token embeddings moved by `share` of the
  /// way to the other run's.
  at::Tensor between(double share) const;

 private:
  at::Tensor moved(const at::Tensor& value, const at::Tensor& own) const;

  TileModel base_;
  TileModel other_;
  Which which_;
  at::Tensor map_ = {};  ///< [b, T]: the other run's position that belongs to one of the base run
  std::vector<at::Tensor> streams_ = {};
  std::vector<at::Tensor> other_streams_ = {};
  at::Tensor embed_change_ = {};
  at::Tensor clean_ = {};
  at::Tensor corrupt_ = {};
};

}  // namespace plumb
