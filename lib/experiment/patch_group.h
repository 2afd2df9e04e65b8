// The plain runs of a group of pairs, and the patched runs that branch off them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "experiment/patch_jobs.h"
#include "experiment/patch_metric.h"
#include "experiment/patch_starts.h"
#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

class PatchGroup {
 public:
  /// Makes the two plain runs of the pairs: the unpatched one with all that branches need, the
  /// other with what is pasted.
  PatchGroup(const Model& model, const Pairs& pairs, PairRange range,
             const std::vector<SweepSpec>& sweeps, const PatchOptions& options);
  PatchGroup(const PatchGroup&) = delete;
  PatchGroup& operator=(const PatchGroup&) = delete;

  const at::Tensor& base_metric() const { return base_metric_; }    ///< [n] float64
  const at::Tensor& other_metric() const { return other_metric_; }  ///< [n] float64
  std::int64_t evaluations() const { return evaluations_; }         ///< of the two plain runs

  /// The metric under each item's patch, float64 [items, n]. Adds what was run to `evaluations`.
  /// From any thread.
  at::Tensor values(Part part, const PatchJob& job, std::int64_t& evaluations) const;

 private:
  struct PlainRuns {
    Run base = {};
    Run other = {};
  };
  PlainRuns plain_runs(const Model& model, const std::vector<SweepSpec>& sweeps,
                       const PatchOptions& options) const;
  at::Tensor at_reads(const at::Tensor& stream) const;

  Pairs pairs_;
  PlainRuns runs_;
  Trunk trunk_;
  at::Tensor reads_;
  Follower follower_;
  PatchStarts starts_;
  MetricReader metric_;
  at::Tensor base_metric_;
  at::Tensor other_metric_;
  std::int64_t evaluations_;
};

}  // namespace plumb
