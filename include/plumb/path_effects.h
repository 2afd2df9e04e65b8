// What single paths of a circuit are worth, by running them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/edge_paths.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/progress.h"

namespace plumb {

struct PathEffect {
  at::Tensor each = {};  ///< [B] float64: metric(clean run) - metric(run with the path's message)
  Estimate effect = {};  ///< their mean: positive = the path raises the metric, as of an edge
  Estimate share = {};   ///< of what all paths do together, metric(clean) - metric(corrupt)
};
struct PathEffects {
  Metric metric = {};
  Estimate total = {};  ///< metric(clean) - metric(corrupt)
  std::vector<PathEffect> paths = {};
  std::int64_t evaluations = 0;  ///< token-layer evaluations made, as in `EdgeRuns`
};

/// Path patching (arXiv:2304.05969), exactly: the clean prompts are run, and along the path, and
/// nowhere else, each component reads what the one before it makes of the corrupt prompt. Effects
/// of different paths do not sum to the total, unless the model is linear in them. The metric is
/// one of the logits. Throws as `run_edges`, and bad_argument where the total is 0.
PathEffects path_effects(const Model& model, const EdgeSpace& space,
                         const std::vector<EdgePath>& paths, const Pairs& pairs,
                         const Metric& metric = {}, const Progress& progress = {});

}  // namespace plumb
