// A patching experiment as a list of jobs: a function of the experiment alone.
#pragma once

#include <cstdint>
#include <vector>

#include "plumb/config.h"
#include "plumb/patch.h"

namespace plumb {

/// One entry of a sweep. -1 = all of that axis.
struct PatchItem {
  std::int64_t position = -1;  ///< of scores and pattern: the query
  std::int64_t head = -1;
  std::int64_t unit = -1;
  std::int64_t expert = -1;
  std::int64_t key = -1;
  std::int64_t set = -1;
  std::int64_t from = 0;   ///< first position that can differ
  std::int64_t index = 0;  ///< in its sweep, row-major
};

/// Pairs that are run together, and share their plain runs.
struct PairRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
/// `together`: all pairs in one group.
std::vector<PairRange> pair_groups(std::int64_t pairs, std::int64_t T, bool together);

/// Items that are run together: of one sweep and one layer (of sets, a single one).
struct PatchJob {
  std::size_t group = 0;
  std::size_t sweep = 0;
  int layer = 0;  ///< of the first site
  std::vector<PatchItem> items = {};
  std::int64_t rows = 0;  ///< live positions of all its streams
};

/// Whole sequences [pairs, T] that are run side by side where a job needs all their positions.
std::int64_t streams_at_once(std::int64_t pairs, std::int64_t T);

/// Entries along the axis of a part's tensor for T positions.
std::int64_t axis_size(Axis axis, const ModelConfig& config, std::int64_t T);

/// Size of each of the sweep's axes.
std::vector<std::int64_t> sweep_shape(const SweepSpec& spec, const ModelConfig& config,
                                      std::int64_t T);

/// The sites that an item patches.
std::vector<SlicedSite> sites_of(const SweepSpec& spec, int layer, const PatchItem& item);
std::string name_of(const SweepSpec& spec, int layer, const PatchItem& item);

/// Throws bad_argument if the model has no site of the sweep, or a set names one that it lacks.
void check_sweep(const SweepSpec& spec, const ModelConfig& config);

/// The jobs of all sweeps over sequences of T positions, in the order of groups, sweeps, layers and
/// positions. Layers without the site are left out.
std::vector<PatchJob> cut_jobs(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                               const std::vector<PairRange>& groups, std::int64_t T);

}  // namespace plumb
