// What sink measurements keep of the tensors of a run: linear in the sequence length.
#pragma once

#include <cstdint>

#include "plumb/head_attention.h"
#include "plumb/plan.h"
#include "plumb/sink.h"
#include "plumb/streamed.h"

namespace plumb {

/// Of a pattern [b, H, query, key]: the mean attention [b, H, key] that each key draws from the
/// chosen valid queries; 0 where no query is left.
Reduce received_by_head(Queries queries);

/// The same, averaged over heads: [b, key].
Reduce received(Queries queries);

/// Of a tensor [b, H, query, 1]: mean over the valid queries, [b, H].
Reduce mean_over_queries();

/// Of a pattern: of each head [b, H, 4], over the chosen queries of key 0, the mean entropy, the
/// key that most of them attend to most (the first of equals), the share that do, and the share
/// that attend to key 0 most. Key and shares of no query are 0.
Reduce head_statistics(Queries queries);

/// Of scores: the mean log-sum-exp [b, H] over the same queries.
Reduce mean_log_sum_exp(Queries queries);

/// Of these two over all layers, [B, L, H, 4] and [B, L, H].
HeadAttention head_attention(const at::Tensor& statistics, const at::Tensor& log_sum_exp);

/// Of a stream [b, T, d]: lengths [b, T].
Reduce stream_norm();

/// Of a stream [b, T, d]: mean over the valid positions t > 0, [b, 1, d].
Reduce mean_of_others();

/// Of a stream [b, T, d]: the entry at one position per sequence, [b, 1, d]. `positions` is [B]
/// int64.
Reduce gather_position(at::Tensor positions);

}  // namespace plumb
