// Long experiments in pieces that are computed once, kept, and shared among processes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/ranks.h"

namespace plumb {

/// The pieces of an experiment, which the experiment alone determines.
struct TileLayout {
  std::string experiment = {};           ///< fingerprint of all that the values depend on
  std::vector<std::int64_t> sizes = {};  ///< numbers in each tile
  bool operator==(const TileLayout&) const = default;
};

/// Where finished tiles are kept, so that a stopped experiment can go on.
class TileStore {
 public:
  virtual ~TileStore() = default;
  /// Called once, before any tile. Throws bad_argument if what is kept belongs to another
  /// experiment.
  virtual void open(const TileLayout& layout) = 0;
  /// The values of a finished tile, float64 [size], or nothing.
  virtual std::optional<at::Tensor> find(std::int64_t tile) = 0;
  /// Returns when the values are safe from the end of this process.
  virtual void keep(std::int64_t tile, const at::Tensor& values) = 0;
};

/// Where the tiles of one experiment are kept, and who computes them. Both may be left out, and
/// outlive the experiment. Of several ranks, rank 0's store is used.
struct Tiles {
  TileStore* store = nullptr;
  Ranks* ranks = nullptr;
};

}  // namespace plumb
