// Reductions of scores, patterns and logits that a long run can make block by block, so that no
// tensor quadratic in the length, nor all of its logits, ever lies in memory. A plan records them
// like any reduction; of short sequences, or where the plan edits or records the whole tensor too,
// they are taken of that.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "plumb/plan.h"

namespace plumb {

/// Sequences of at least this length are attended block by block: for each block of queries, keys
/// are visited block by block and the softmax is corrected as larger scores turn up
/// (arXiv:1805.02867, arXiv:2205.14135). On the CPU, without gradients, and where the plan asks of
/// `scores` and `pattern` nothing but the reductions below. Blocks are cut by the shapes alone: the
/// bits do not depend on the number of threads.
inline constexpr std::int64_t shortest_streamed = 512;

/// Of `pattern`: the mean attention [b, H, key] that each key draws from the valid queries of
/// weight 1 that see it; 0 where there is none.
struct ReceivedAttention {
  /// [b, T] of 0 and 1 from the valid lengths [b]: which queries count.
  std::function<at::Tensor(const at::Tensor& lengths, std::int64_t T)> queries = {};
  bool own = false;  ///< whether a query counts for the key at its own position

  at::Tensor operator()(const at::Tensor& pattern, const Tile& tile) const;
  /// [b, query, key]: 1 / the number of queries that count for the key, where this one does; else
  /// 0.
  at::Tensor weights(const at::Tensor& lengths, std::int64_t T,
                     const at::TensorOptions& options) const;
};

/// What `AttentionRows` says of each query's attention, along the axis before the last.
enum class RowStatistic {
  sink,     ///< attention to position 0
  entropy,  ///< - sum p ln p over keys, in nats
  top_key,  ///< the key that draws most, the first of equals
  top,      ///< attention to it
};
inline constexpr std::int64_t row_statistics = 4;

/// Of `pattern`: `then` of [b, H, 4, query], the statistics above.
struct AttentionRows {
  Reduce then = {};

  at::Tensor operator()(const at::Tensor& pattern, const Tile& tile) const;
};

/// Of `scores`: `then` of [b, H, query], the log of the sum of exp(score) over the keys that the
/// query sees; a learned sink logit is not among them.
struct LogSumExp {
  Reduce then = {};

  at::Tensor operator()(const at::Tensor& scores, const Tile& tile) const;
};

/// Of `logits`: `then` of [b, T], one number for each position, which `at` makes of the logits [b,
/// n, vocab] of n positions and of the ids [b, n + 1] there and after them; past the end, id 0.
struct EachPosition {
  std::function<at::Tensor(const at::Tensor& logits, const at::Tensor& ids)> at = {};
  Reduce then = {};

  at::Tensor operator()(const at::Tensor& logits, const Tile& tile) const;
};

/// The ids [b, count + 1] from position `first` on, id 0 past the end.
at::Tensor ids_from(const at::Tensor& ids, std::int64_t first, std::int64_t count);

}  // namespace plumb
