// An experiment of sweeps that fits its model.
#pragma once

#include <vector>

#include "experiment/patch_driver.h"
#include "experiment/patch_routes.h"

namespace plumb {

/// All but how its jobs are run. What it is made of must outlive it. Throws bad_argument where
/// sweeps, pairs, options and model do not fit each other.
DrivenExperiment checked_sweeps(const Model& model, const Pairs& pairs,
                                const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
                                const PatchRoutes& routes);

}  // namespace plumb
