#include "plumb/planned_patch.h"

#include "plumb/patch_cost.h"

namespace plumb {

PlannedWork plan_patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                       const std::optional<Paths>& paths, const PatchOptions& options) {
  const RunCost cost = paths ? foresee_path_patch(model, pairs, sweeps, *paths, options)
                             : foresee_patch(model, pairs, sweeps, options);
  const bool clean = !pairs.paired || options.direction == Direction::noising;
  PlannedWork work;
  work.command = "patch";
  work.sequences = pairs.count();
  work.length = (clean ? pairs.clean : pairs.corrupt).length();
  work.evaluations = cost.evaluations;
  work.weight_bytes = cost.weight_bytes;
  work.activation_bytes = cost.activation_bytes;
  work.result_bytes = cost.result_bytes;
  work.peak_bytes = foresee_peak(model, cost);
  return work;
}

}  // namespace plumb
