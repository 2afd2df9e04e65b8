// Intervals of what patching sweeps found.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace plumb {

/// Bounds of the 95 % bootstrap intervals of (W each - W from) / (W to - W from), pairs being drawn
/// for all alike; `from` and `to` [B], `each` [sites, B]. Without `to`, of W each - W from; without
/// either, of W each. Each [sites] float64.
std::pair<at::Tensor, at::Tensor> value_intervals(const at::Tensor& each, const at::Tensor& from,
                                                  const at::Tensor& to);

}  // namespace plumb
