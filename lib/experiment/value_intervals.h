// Intervals of what patching sweeps found.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "plumb/metrics.h"

namespace plumb {

/// The share of each of B pairs in each bootstrap sample, [samples, B] float64: the same draws as
/// `bootstrap` makes.
at::Tensor bootstrap_shares(std::int64_t B);
/// The mean given, with the bounds of the middle 95 % of one number for each sample.
Estimate middle_of(double mean, const at::Tensor& samples);

/// Bounds of the 95 % bootstrap intervals of (W each - W from) / (W to - W from), pairs being drawn
/// for all alike; `from` and `to` [B], `each` [sites, B]. Without `to`, of W each - W from; without
/// either, of W each. Each [sites] float64.
std::pair<at::Tensor, at::Tensor> value_intervals(const at::Tensor& each, const at::Tensor& from,
                                                  const at::Tensor& to);

}  // namespace plumb
