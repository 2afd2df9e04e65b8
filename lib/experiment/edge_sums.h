// Scores of tiles, added up over pairs.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "experiment/edge_samples.h"
#include "plumb/attribute.h"

namespace plumb {

/// Adds one pair after another in the order of the pairs, whichever tile is done first: how pairs
/// were cut into tiles leaves no trace in the order of the sum. Safe to use from many threads.
class EdgeSums {
 public:
  /// A tile's scores are let go of as soon as they are added, unless those of each pair are asked
  /// for.
  EdgeSums(std::int64_t tiles, const EdgeOptions& options);

  void add(std::int64_t tile, EdgeTile found);
  /// Fills in what comes of all tiles.
  void finish(EdgeReport& report, std::int64_t pairs);

 private:
  bool each_;
  bool by_position_;
  std::vector<EdgeTile> tiles_;
  std::mutex lock_ = {};
  std::size_t added_ = 0;  ///< tiles
  at::Tensor total_ = {};  ///< [1 or T, edges]
};

/// The same of tiles that are all there.
void add_up(EdgeReport& report, std::vector<EdgeTile> tiles, std::int64_t pairs);

}  // namespace plumb
