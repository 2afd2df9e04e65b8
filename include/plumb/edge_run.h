// Runs in which only some edges carry what the prompt makes of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/edges.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/progress.h"
#include "plumb/replacement.h"

namespace plumb {

struct EdgeRunOptions {
  Metric metric = {};
  /// What the edges outside carry: the sender's write in the corrupt run (other), zero, its mean
  /// over the clean prompts (mean, mean_batch, mean_position), or its write in another clean prompt
  /// (resample).
  Replacement outside = {};
};

struct EdgeRuns {
  at::Tensor clean = {};    ///< [B] float64: the metric of the plain clean run
  at::Tensor corrupt = {};  ///< [B]: of the plain corrupt run; as `clean` without partners
  at::Tensor empty = {};    ///< [B]: of the run in which no edge is in
  at::Tensor each = {};     ///< [n, B]: of each set of edges
  std::int64_t evaluations = 0;  ///< token-layer evaluations made
};

/// For each set of edges (`masks[i][edge]` is not 0 where it is in) one run of the clean prompts in
/// which every receiver reads
///
///   the stream as the replacements make it + sum over the edges into it that are in of
///   (what the sender writes in this very run - its replacement),
///
/// and writes anew: EAP-IG's evaluate_graph (arXiv:2403.17806). Position embeddings and the bias of
/// attention's output are no sender's. A head's write is taken through the norm behind attention,
/// where there is one, at the scale of the whole write. Components that lead nowhere are not run.
///
/// The space is that of the model, key heads as it has them, or with a key head for every head:
/// heads then read keys and values of their own, made by the shared key head's weights.
///
/// The plain runs are made once for all sets. Pairs are cut into tiles by the experiment alone, so
/// that the values are the same bits for any number of threads and for any other sets beside.
/// Throws bad_argument where space, sets, pairs, metric and model do not fit each other; the metric
/// is one of the logits.
EdgeRuns run_edges(const Model& model, const EdgeSpace& space,
                   const std::vector<std::vector<std::uint8_t>>& masks, const Pairs& pairs,
                   const EdgeRunOptions& options = {}, const Progress& progress = {});

}  // namespace plumb
