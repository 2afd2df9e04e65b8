// Edges the plain way: whole runs in which one receiver reads something else.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plumb/edges.h"
#include "plumb/patch.h"

namespace plumb::test {

/// The metric [B] of the clean run under the edits `base`, when the edge's receiver reads its
/// stream plus `share` times the sender's change: its write in the plain corrupt run less that in
/// the plain clean one. Everything behind the receiver follows.
at::Tensor naive_edge(const Model& model, const Pairs& pairs, const Metric& metric,
                      const EdgeSpace& space, std::int64_t edge, double share,
                      const std::vector<Intervention>& base = {});

/// The metric [B] when what the receiver writes on reading the sender's corrupt value is handed to
/// the final norm alone: one run to see what it writes, one to read the metric.
at::Tensor naive_direct(const Model& model, const Pairs& pairs, const Metric& metric,
                        const EdgeSpace& space, std::int64_t edge);

/// The sender's change [B, T, d_model].
at::Tensor naive_change(const Model& model, const Pairs& pairs, const EdgeSender& sender);

}  // namespace plumb::test
