// One experiment's tiles: who computes which, what is known already, and what came of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

#include "plumb/progress.h"
#include "plumb/tiles.h"

namespace plumb {

/// Every tile is computed once, by one of the ranks, and kept by rank 0. Tiles come out the same
/// whoever computes them, so that the values depend on neither ranks nor restarts.
class TileRun {
 public:
  TileRun(TileLayout layout, const Tiles& tiles, Progress progress);

  /// Tiles from `first` to before `last` that this process has to compute.
  std::vector<std::int64_t> mine(std::int64_t first, std::int64_t last) const;
  /// A tile of this process is finished. From any thread; `what` is for the progress.
  void done(std::int64_t tile, const at::Tensor& values, std::string_view what);
  /// Waits for the other ranks. The values of all tiles, in order, the same on every rank.
  std::vector<at::Tensor> finish();

 private:
  void put(std::int64_t tile, const at::Tensor& values);
  void collect();
  void tell(std::string_view what);

  TileLayout layout_;
  TileStore* store_;
  Ranks* ranks_;
  Progress progress_;
  std::vector<at::Tensor> values_;
  std::vector<std::int64_t> mine_;
  std::int64_t finished_ = 0;  ///< of all tiles on rank 0, of this process' own elsewhere
  std::int64_t expected_ = 0;
  std::mutex lock_;
};

}  // namespace plumb
