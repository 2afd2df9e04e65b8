// What `plumb p0` will cost, before it is run.
#pragma once

#include <vector>

#include "plumb/p0.h"
#include "plumb/planned_work.h"

namespace plumb {

/// Of `locate_p0` if it finds these waves; throws what `foresee_p0` throws.
PlannedWork plan_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                    const std::vector<Wave>& waves);

}  // namespace plumb
