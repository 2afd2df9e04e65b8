// What the senders of a tapped model write differently in its clean and its corrupt run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "experiment/patch_metric.h"
#include "experiment/tapped_reach.h"

namespace plumb {

/// Of one tile of b pairs, N = b T positions of the clean run.
struct TappedWrites {
  at::Tensor change = {};   ///< [senders, N, d_model] corrupt less clean, in the type of sums; the
                            ///< senders of the blocks that the metric depends on
  at::Tensor input = {};    ///< [b, T, d_model] at the input's site in the clean run
  at::Tensor clean = {};    ///< what the metric reads of the clean run: its site, or the logits at
                            ///< the read positions [b, P, vocab]
  at::Tensor corrupt = {};  ///< of the corrupt run
  std::int64_t evaluations = 0;
};

/// The record of what the metric reads of one of the runs, under the label "metric".
Record read_of(const Metric& metric, const Pairs& pairs, Which which);

/// Throws bad_argument where what is written does not sum to how the stream differs.
TappedWrites writes_of(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
                       const Metric& metric);

/// LibTorch's refusal of a derivative, in one line.
[[noreturn]] void refuse_derivative(const TappedModel& model);

}  // namespace plumb
