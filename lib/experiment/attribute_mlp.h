// The gradient at what a block's MLP reads, found without running what it writes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/pass.h"

namespace plumb {

/// Positions whose MLP is pulled back together: more gain little and hold more.
inline constexpr std::int64_t mlp_rows_at_once = 256;

/// Whether `mlp_gradient` knows the block: a dense MLP without a norm on its write.
bool knows_mlp_gradient(const ModelConfig& config, int layer);

/// `stream` [b, T, d_model] is what the MLP reads, before its norm; `written` the gradient at what
/// it writes. The gradient at the stream, in the type of sums; derivatives, whatever the pass has
/// in their place. What the MLP holds inside is
/// there for `mlp_rows_at_once` positions at a time.
at::Tensor mlp_gradient(Pass& pass, int layer, const at::Tensor& stream, const at::Tensor& written);

}  // namespace plumb
