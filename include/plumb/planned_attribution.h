// What `plumb attribute` will cost, before it is run.
#pragma once

#include "plumb/attribute.h"
#include "plumb/planned_work.h"

namespace plumb {

/// Of edge scores by gradients; throws what `foresee_attribution` throws.
PlannedWork plan_attribution(const Model& model, const Pairs& pairs, const Metric& metric = {},
                             const EdgeOptions& options = {});

}  // namespace plumb
