// What a run will cost, known from shapes before any work.
#pragma once

#include <cstdint>
#include <vector>

#include "plumb/model.h"
#include "plumb/plan.h"

namespace plumb {

/// Bytes are those of the model's dtype of arithmetic.
struct RunCost {
  std::int64_t evaluations = 0;       ///< token-layer evaluations, as `Run::evaluations`
  std::int64_t weight_bytes = 0;      ///< of the weights it needs, every expert counted
  std::int64_t block_bytes = 0;       ///< of those, of the block that takes most
  std::int64_t tensor_bytes = 0;      ///< of the largest single one
  std::int64_t activation_bytes = 0;  ///< most at any moment, of the tiles that run together, and
                                      ///< what they recorded until it is joined
  std::int64_t result_bytes = 0;      ///< logits and records; reductions are taken for nothing
};

/// Of `run` on [batch, length] tokens; of each part where it runs at most `sequences` at a time.
/// The plan should be one that `run` accepts.
RunCost foresee(const Model& model, std::int64_t batch, std::int64_t length, const Plan& plan = {},
                std::int64_t sequences = 0);

/// The shape of a site's selected entries in a run on [batch, length] tokens.
std::vector<std::int64_t> shape_of(const ModelConfig& config, std::int64_t batch,
                                   std::int64_t length, const SlicedSite& site);

/// Bytes that the process needs at its peak for such a run: itself as it is now, the weights as far
/// as `LoadOptions::memory` lets it keep them, activations and results.
std::int64_t foresee_peak(const Model& model, const RunCost& cost);

}  // namespace plumb
