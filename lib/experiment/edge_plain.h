// The plain clean and corrupt runs of a tile of pairs, and what senders write differently in them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "experiment/attribute_metric.h"
#include "experiment/attribute_tile.h"
#include "experiment/edge_contract.h"
#include "model/follow.h"
#include "plumb/pairs.h"

namespace plumb {

/// What a value [b, T, ...] of the corrupt run is more than that of the clean one, [N, ...], at the
/// clean run's positions; 0 where no position belongs to one.
at::Tensor change_of(const at::Tensor& corrupt, const at::Tensor& clean, const Pairs& pairs);

struct EdgePlain {
  SenderChange change = {};  ///< corrupt less clean, at the clean run's positions
  /// What enters each block, and what leaves the last one; where that is all that is kept, the
  /// others are undefined.
  std::vector<at::Tensor> clean_streams = {};
  std::vector<at::Tensor> corrupt_streams = {};
  Trunk trunk = {};                ///< of the clean run, where it is kept
  std::vector<at::Tensor> z = {};  ///< of the clean run, with the trunk: [b, T, H, d_head]
  at::Tensor clean = {};           ///< [b] float64: the metric
  at::Tensor corrupt = {};         ///< [b]
  std::int64_t evaluations = 0;
};

struct KeptPlain {
  bool clean_streams = false;
  bool corrupt_streams = false;
  bool trunk = false;  ///< and so the clean streams
};

/// Both runs go through each block together, so that of each only what is needed is kept. `metric`
/// is told what to compare with.
EdgePlain run_plain(const TileModel& model, const Pairs& pairs, TileMetric& metric,
                    const KeptPlain& kept);

}  // namespace plumb
