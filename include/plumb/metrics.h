// Numbers read off a run, and intervals around their means.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/plan.h"

namespace plumb {

/// Negative log-likelihood in nats of each next token: logits [B, T, vocab] and ids [B, T] give
/// [B, T - 1]; entry t is the loss of ids[t + 1].
at::Tensor token_loss(const at::Tensor& logits, const at::Tensor& ids);

/// Difference of two logits at one position of each sequence: logits [B, T, vocab], positions,
/// right and wrong [B] int64 give [B]. Positive = the right answer is preferred.
at::Tensor logit_diff(const at::Tensor& logits, const at::Tensor& positions,
                      const at::Tensor& right, const at::Tensor& wrong);

/// Records, under the label "loss", each sequence's mean loss [B] in float64 over its valid
/// positions, and keeps no logits. `skip` leaves out the first predictions (1 where a BOS stands
/// first).
Record record_loss(std::int64_t skip = 0);

/// A mean over sequences with its 95 % bootstrap interval.
struct Estimate {
  double mean = 0.0;
  double low = 0.0;
  double high = 0.0;
};

/// Percentile bootstrap over the sequences of `values` [B], 2,000 resamples. Same seed, same
/// interval.
Estimate bootstrap(const at::Tensor& values, std::uint64_t seed = 0);
Estimate bootstrap(const std::vector<double>& values, std::uint64_t seed = 0);

}  // namespace plumb
