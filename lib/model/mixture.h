// A mixture of experts in place of a block's MLP.
#pragma once

#include "model/pass.h"

namespace plumb {

/// What the experts of a sparse layer add to the stream [B, T, d_model], from the normalised
/// stream. Calls `tap` at router, and at expert_out and shared_out where the plan wants them. The
/// edited router probabilities choose the experts and weigh them; of equal ones, the first is
/// chosen. Tokens are grouped by expert in the order in which they stand in the tile, so the bits
/// depend on the tile alone.
at::Tensor mixture(Pass& pass, int layer, const at::Tensor& normed);

}  // namespace plumb
