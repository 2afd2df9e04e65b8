// One run in which receivers read only some edges.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "experiment/edge_outside.h"
#include "model/decoder.h"
#include "plumb/edges.h"

namespace plumb {

/// Where a run of a tile begins to differ, and where it is read.
struct EdgeSpan {
  std::int64_t from = 0;          ///< before it, every run is the one outside
  std::int64_t end = 0;           ///< nobody reads what stands from here on
  at::Tensor reads = {};          ///< [B, P] int64: of a metric of the logits, else undefined
  std::optional<Site> site = {};  ///< that is read in its place
};

/// What the senders that lead on write in one run less their replacements.
struct EdgeWrites {
  std::vector<std::int64_t> rows = {};  ///< [senders]: the row of each, -1 where it leads nowhere
  std::vector<std::int64_t> rows_before = {};  ///< [senders + 1]: of the senders before each
  at::Tensor changes = {};                     ///< [rows, B N d_model]
};

/// Of one tile of pairs; safe to use from many threads, as long as each has its own writes.
class EdgeRunner {
 public:
  /// `input` is what the clean run embeds, [B, T, d_model]. What is given must outlive it.
  EdgeRunner(const Model& model, const EdgeSpace& space, const EdgeEnds& ends,
             const at::Tensor& input, const OutsideValues& outside, const EdgeSpan& span);

  /// [senders]: which lead to what is read.
  std::vector<std::uint8_t> leads(const std::vector<std::uint8_t>& mask) const;
  /// Room for what is written in runs of the set and of its parts.
  EdgeWrites writes(const std::vector<std::uint8_t>& mask) const;
  /// The stream before the final norm where it is read, [B, P, d_model]; or the site that is.
  /// `mask` [edges]. Of the blocks before `from` the writes stand there already, from runs of sets
  /// that have the same edges into them. Adds to `work` the rows run, each times the numbers of the
  /// weights that they met.
  at::Tensor run(const std::vector<std::uint8_t>& mask, EdgeWrites& writes, int from,
                 std::atomic<std::int64_t>& work) const;

 private:
  friend class EdgePass;
  const Model& model_;
  const EdgeSpace& space_;
  const EdgeEnds& ends_;
  const at::Tensor& input_;
  const OutsideValues& outside_;
  const EdgeSpan& span_;
  Plan plan_ = {};
  DecoderInputs inputs_;    // at the live positions
  DecoderInputs at_reads_;  // at the read ones, packed
};

/// The numbers of the weights that one position meets in one block of the model: what `work` is to
/// be divided by.
std::int64_t block_work(const ModelConfig& config);

}  // namespace plumb
