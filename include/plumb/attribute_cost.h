// What edge attribution will cost, before it is run.
#pragma once

#include "plumb/attribute.h"
#include "plumb/cost.h"

namespace plumb {

/// Of `edge_report` by gradients, known from shapes: `evaluations` are those that it reports,
/// forwards; `weight_bytes` those of the blocks that the metric depends on and of the unembedding
/// as far as it reads it; `activation_bytes` what the tiles in work together hold; `result_bytes`
/// the scores. Throws what `edge_report` throws before it runs anything, and unsupported for direct
/// and exact, whose cost depends on where the prompts differ.
RunCost foresee_attribution(const Model& model, const Pairs& pairs, const Metric& metric = {},
                            const EdgeOptions& options = {});

}  // namespace plumb
