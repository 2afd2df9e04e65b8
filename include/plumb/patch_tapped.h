// Activation patching of a researcher's own model.
#pragma once

#include <vector>

#include "plumb/patch.h"
#include "plumb/tapped.h"

namespace plumb {

/// `patch` of a forward pass of your own, with the same numbers: one whole pass for each site, one
/// after another, as nothing of it can be left out. Throws also what `run` throws, as where the
/// pass never reaches a site.
PatchReport patch(const TappedModel& model, const Pairs& pairs,
                  const std::vector<SweepSpec>& sweeps, const PatchOptions& options = {},
                  const Progress& progress = {}, const Tiles& tiles = {});

}  // namespace plumb
