// What one job of path patching takes, from shapes alone.
#pragma once

#include <cstdint>

#include "experiment/patch_driver.h"
#include "plumb/patch.h"

namespace plumb {

/// Mirrors the steps of `PathWalk` and of the last run.
JobCost path_job_cost(const Model& model, const PatchOptions& options, const SweepSpec& senders,
                      const Paths& paths, const PatchJob& job, std::int64_t pairs, std::int64_t T);

}  // namespace plumb
