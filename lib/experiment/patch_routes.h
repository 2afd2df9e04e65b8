// Which way a patched run takes: what of it can be left out.
#pragma once

#include <cstdint>
#include <vector>

#include "experiment/patch_jobs.h"
#include "plumb/patch.h"

namespace plumb {

/// How a patched site changes the stream: directly, before the block's MLP, or in ways that take
/// the block itself to find out.
enum class Way { stream, mid, none };

class PatchRoutes {
 public:
  PatchRoutes(const ModelConfig& config, const PatchOptions& options);

  /// Of the items of one layer; `none` of sets and of what a fixed edit follows.
  Way way(const SweepSpec& spec, int layer) const;
  /// The block that the job's branches enter.
  int entry(const SweepSpec& spec, const PatchJob& job) const;
  /// Whether the metric is read before anything of the job is edited.
  bool too_late(const SweepSpec& spec, const PatchJob& job) const;
  /// Whether the metric is read in a block in which, or before the end of which, items are edited:
  /// each item's blocks are then run whole up to it.
  bool reads_on_the_way(const SweepSpec& spec, const PatchJob& job) const;
  /// Blocks that matter to the metric.
  int depth() const { return depth_; }

  /// Whether the part is the stream that enters its block.
  static bool enters_own_block(Part part);

 private:
  const ModelConfig& config_;
  const Metric& metric_;
  int depth_;
  bool hides_;           ///< that asks where a query stands
  int last_fixed_ = -1;  ///< last block with a fixed edit
};

/// Blocks that matter to the metric.
int depth_of(const PatchOptions& options, const ModelConfig& config);

/// Items that share their first position, and are neighbours, make one branch: how many each.
std::vector<std::int64_t> branch_sizes(const std::vector<PatchItem>& items);

}  // namespace plumb
