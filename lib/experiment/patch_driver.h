// A patching experiment from its groups of pairs to its report: tiles, threads, ranks, values.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "experiment/patch_experiment.h"
#include "plumb/cost.h"
#include "plumb/patch.h"

namespace plumb {

/// A group of pairs with its unpatched runs, from which jobs are computed.
class PatchGroup {
 public:
  virtual ~PatchGroup() = default;
  virtual const PatchExperiment& experiment() const = 0;
  /// The metric under each item's patch, float64 [items, pairs of the group]. Adds what was run to
  /// `evaluations`. From any thread.
  virtual at::Tensor values(const PatchJob& job, std::int64_t& evaluations) const = 0;
};

/// What a job takes.
struct JobCost {
  std::int64_t evaluations = 0;
  std::int64_t bytes = 0;  ///< most at any moment
};

struct DrivenExperiment {
  const Model& model;
  const Pairs& pairs;
  const std::vector<SweepSpec>& sweeps;
  const PatchOptions& options;
  std::string what = {};             ///< of the fingerprint: what else the values depend on
  std::int64_t naive_runs = 1;       ///< whole runs that a site costs the plain way
  std::vector<Site> sites = {};      ///< that are patched
  std::vector<Record> records = {};  ///< of the unpatched run, beside its trunk
  std::function<JobCost(const PatchJob& job, std::int64_t pairs)> job_cost = {};
  bool one_at_a_time =
      false;  ///< the jobs, with the threads that the caller has set; no `job_cost`
  std::function<std::unique_ptr<PatchGroup>(PairRange range)> make_group = {};
};

/// What it will take, as a run that makes as many jobs at once as it will.
RunCost foresee_cost(const DrivenExperiment& asked);

/// Throws bad_argument if normalisation is asked for where both runs have the same mean metric.
PatchReport drive(const DrivenExperiment& asked, const Progress& progress, const Tiles& tiles);

}  // namespace plumb
