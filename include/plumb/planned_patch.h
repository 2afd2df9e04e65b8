// What `plumb patch` will cost, before it is run.
#pragma once

#include <optional>
#include <vector>

#include "plumb/path_patch.h"
#include "plumb/planned_work.h"

namespace plumb {

/// Of `patch`, or of `path_patch` where there are paths: `sequences` and `length` are those of the
/// patched run.
PlannedWork plan_patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                       const std::optional<Paths>& paths, const PatchOptions& options);

}  // namespace plumb
