// What a patching experiment will take, known before anything is run.
#pragma once

#include <vector>

#include "plumb/cost.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/path_patch.h"

namespace plumb {

// Under `LoadOptions::memory` as many tiles of an experiment are in work at a time as fit, down to
// one, and weights are dropped and read again where not all fit: the bits depend on neither.
// `patch` and `path_patch` throw too_large, saying how much is needed, where not even one tile
// fits.

/// What `patch` will take in one process, known from shapes: `weight_bytes` are those of the blocks
/// and of the unembedding as far as the metric reads it; `result_bytes` what the unpatched runs of
/// a group of pairs leave, and the values; `activation_bytes` what is computed at the same time.
/// Throws what `patch` throws before it runs anything, too_large included.
RunCost foresee_patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                      const PatchOptions& options = {});

/// The same of `path_patch`.
RunCost foresee_path_patch(const Model& model, const Pairs& pairs,
                           const std::vector<SweepSpec>& senders, const Paths& paths,
                           const PatchOptions& options = {});

}  // namespace plumb
