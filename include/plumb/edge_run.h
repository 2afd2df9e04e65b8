// Runs in which only some edges carry what the prompt makes of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
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
  /// The reverse, of the corrupt run's writes alone: edges that are in carry the corrupt prompt's
  /// message, those outside the clean run's writes. A set that is one path is path patching.
  bool noising = false;
};

/// Where the edges of a circuit end: at what the metric reads.
struct EdgeEnds {
  int depth = 0;                             ///< blocks that matter
  std::vector<std::int64_t> receivers = {};  ///< that it reads, rising
  std::int64_t seen = 0;                     ///< senders that the receiver `logits` sees
  bool read(std::int64_t receiver) const;
  std::int64_t seen_by(const EdgeSpace& space, std::int64_t receiver) const;
};
/// Of metrics of the logits, the logits; of attention, the queries and keys of the heads whose
/// pattern is read; of the stream (resid_pre, resid_mid, mlp_in or resid_post of a block), the
/// receiver `logits`, which stands for the read-out and sees what was written by then. Throws
/// unsupported for other sites.
EdgeEnds edge_ends(const EdgeSpace& space, const Metric& metric);

struct EdgeRuns {
  at::Tensor clean = {};    ///< [B] float64: the metric of the plain clean run
  at::Tensor corrupt = {};  ///< [B]: of the plain corrupt run; as `clean` without partners
  at::Tensor empty = {};    ///< [B]: of the run in which no edge is in
  at::Tensor each = {};     ///< [n, B]: of each set of edges
  /// Token-layer evaluations made: the plain runs, and of the sets what was run of their blocks, as
  /// the products with weights that it took, in those of a whole block.
  std::int64_t evaluations = 0;
  std::int64_t plain_evaluations = 0;  ///< of these, those of the plain runs
};

/// For each set of edges (`masks[i][edge]` is not 0 where it is in) one run of the clean prompts in
/// which every receiver reads
///
///   the stream as the replacements make it + sum over the edges into it that are in of
///   (what the sender writes in this very run - its replacement),
///
/// and writes anew: EAP-IG's evaluate_graph (arXiv:2403.17806). Position embeddings and the bias of
/// attention's output are no sender's. A head's write is taken through the norm behind attention,
/// where there is one, at the scale of the whole write.
///
/// What cannot matter is not run: components that lead nowhere, positions before the first at which
/// the prompts of a pair differ (where edges carry the corrupt run) and behind the last that the
/// metric reads, of the last block's queries and MLP those where it does not read.
///
/// The space is that of the model, key heads as it has them, or with a key head for every head:
/// heads then read keys and values of their own, made by the shared key head's weights.
///
/// The plain runs are made once for all sets. Pairs are cut into tiles by the experiment alone, so
/// that the values are the same bits for any number of threads and for any other sets beside.
/// Throws bad_argument where space, sets, pairs, metric and model do not fit each other, and what
/// `edge_ends` throws.
EdgeRuns run_edges(const Model& model, const EdgeSpace& space,
                   const std::vector<std::vector<std::uint8_t>>& masks, const Pairs& pairs,
                   const EdgeRunOptions& options = {}, const Progress& progress = {});

/// The same runs one after another, each set being known when the last one's metric is. All pairs'
/// plain runs lie in memory. Of one thread; a run shares its pairs among the model's.
class EdgeRunSeries {
 public:
  /// `widest`: a set that all others are parts of. What is given must outlive it.
  EdgeRunSeries(const Model& model, const EdgeSpace& space, const Pairs& pairs,
                const EdgeRunOptions& options, const std::vector<std::uint8_t>& widest);
  ~EdgeRunSeries();
  EdgeRunSeries(const EdgeRunSeries&) = delete;
  EdgeRunSeries& operator=(const EdgeRunSeries&) = delete;

  /// The metric [B] of the set. Blocks before the first receiver into which it has not the same
  /// edges as the set before it are not run again.
  at::Tensor value(const std::vector<std::uint8_t>& mask);
  /// The plain runs; without `each`.
  EdgeRuns plain() const;
  std::int64_t evaluations() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
