// How a patching experiment is cut into pieces: a function of the experiment alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiment/patch_starts.h"
#include "plumb/patch.h"

namespace plumb {

/// Pairs that are run together, and share their plain runs.
struct PairRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
std::vector<PairRange> pair_groups(std::int64_t pairs, std::int64_t length);

/// Items of one sweep and layer that are computed together.
struct PatchJob {
  std::size_t group = 0;
  std::size_t sweep = 0;
  int layer = 0;
  std::vector<PatchItem> items = {};
  std::vector<std::int64_t> index = {};  ///< of each item in its sweep, row-major
  std::int64_t rows = 0;                 ///< live positions of its streams
};

/// In the order of the groups.
std::vector<PatchJob> patch_jobs(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                 const std::vector<PairRange>& groups, std::int64_t length);

/// Sizes of a sweep's axes.
std::vector<std::int64_t> sweep_shape(const SweepSpec& spec, const ModelConfig& config,
                                      std::int64_t length);

/// "L3.z[h=2;t=0]"
std::string site_name(const SweepSpec& spec, int layer, const PatchItem& item);

}  // namespace plumb
