#include "plumb/planned_patch.h"

#include "plumb/patch_cost.h"
#include "report/planned.h"

namespace plumb {

PlannedWork plan_patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                       const std::optional<Paths>& paths, const PatchOptions& options) {
  const RunCost cost = paths ? foresee_path_patch(model, pairs, sweeps, *paths, options)
                             : foresee_patch(model, pairs, sweeps, options);
  const bool clean = !pairs.paired || options.direction == Direction::noising;
  return report::planned(model, "patch", pairs.count(),
                         (clean ? pairs.clean : pairs.corrupt).length(), cost);
}

}  // namespace plumb
