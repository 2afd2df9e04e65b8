// What a patching experiment will take, from shapes alone, and how it keeps within a bound.
#pragma once

#include <cstdint>

#include "experiment/patch_driver.h"
#include "experiment/patch_routes.h"
#include "plumb/cost.h"
#include "plumb/patch.h"

namespace plumb {

struct PatchCost {
  std::int64_t evaluations = 0;   ///< token-layer evaluations, as `PatchReport::evaluations`
  RunCost weights = {};           ///< of which the weights' bytes are meant
  std::int64_t making_bytes = 0;  ///< most while a group's unpatched runs are made
  std::int64_t held_bytes = 0;    ///< what these leave
  std::int64_t job_bytes = 0;     ///< of the job that takes most
  std::int64_t value_bytes = 0;   ///< of the jobs and their values
  std::int64_t jobs = 0;          ///< of the group that has most
};

/// `jobs` is what `cut_jobs` makes of the experiment.
PatchCost foresee(const DrivenExperiment& asked, const std::vector<PairRange>& groups,
                  const std::vector<PatchJob>& jobs);

/// How many jobs may be in work together: as many as there are threads, unless the model's memory
/// is bounded. Throws too_large, saying how much is needed, where not even one fits.
int jobs_at_once(const PatchCost& cost, const Model& model);

/// The cost as one run's: activations are those of the jobs in work, or of the unpatched runs
/// where these take more.
RunCost as_run(const PatchCost& cost, int jobs_at_once);

/// Of a sweep's job.
JobCost job_cost(const Model& model, const PatchRoutes& routes, const PatchOptions& options,
                 const SweepSpec& spec, const PatchJob& job, std::int64_t pairs, std::int64_t T);
/// What reading the metric takes, in bytes.
std::int64_t metric_bytes(const Metric& metric, const Model& model);
/// Bytes of one number that is computed with.
std::int64_t number_bytes(const Model& model);
/// Elements that live at the same time while whole blocks are run on so many rows: the most of any
/// block.
std::int64_t block_elements(const ModelConfig& config, std::int64_t rows, std::int64_t scores,
                            bool head_out, bool expert_out);

}  // namespace plumb
