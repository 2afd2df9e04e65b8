// Patching as its definition says: one whole forward pass for each site.
#pragma once

#include <ATen/core/Tensor.h>

#include "plumb/patch.h"

namespace plumb::test {

/// The metric of every site of the sweep on every pair, float64, the sweep's axes and then pairs.
at::Tensor naive_patch(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                       const PatchOptions& options);

/// The metric of logits [B, vocab] at the read positions, written out plainly.
at::Tensor naive_metric(const Metric& metric, const Pairs& pairs, const at::Tensor& logits,
                        const at::Tensor& clean_logits);

}  // namespace plumb::test
