// Attention of long sequences, block by block: nothing quadratic in the length is ever made.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/config.h"

namespace plumb {

/// B sequences of T positions, H heads, K key heads. All on the CPU, in float32 or float64, without
/// gradients.
struct BlockAttention {
  at::Tensor q = {};          ///< [B, T, H, d_head]
  at::Tensor k = {};          ///< [B, T, K, d_head]
  at::Tensor v = {};          ///< [B, T, K, d_head]
  double factor = 1;          ///< on the products of q and k
  double cap = 0;             ///< scores become cap tanh(score / cap); 0 = they do not
  std::int64_t window = 0;    ///< a query sees so many keys up to its own; 0 = all
  bool chunked = false;       ///< windows are fixed stretches of that length instead
  at::Tensor slopes = {};     ///< [H] float64: taken off a score for each step of distance
  at::Tensor positions = {};  ///< [T] float64: what distances are between; only with slopes
  at::Tensor sinks = {};      ///< [H] learned logits beside a head's scores
  /// [H, T] bool: queries that do not see key 0; query 0 always does, it has no other
  at::Tensor first_unseen = {};
};

/// Sums over queries to be made for each key.
struct BlockColumns {
  at::Tensor queries = {};  ///< [B, T]: the weight of each query
  bool own = false;         ///< whether a query counts for the key at its own position
};

struct BlockWants {
  bool rows = false;
  std::vector<BlockColumns> columns = {};
};

struct BlockResult {
  at::Tensor z = {};            ///< [B, T, H, d_head]
  at::Tensor rows = {};         ///< [B, H, 4, T] as `AttentionRows`; undefined if not wanted
  at::Tensor log_sum_exp = {};  ///< [B, H, T] float64
  std::vector<at::Tensor> columns = {};  ///< each [B, H, T] float64
};

struct BlockSizes {
  std::int64_t rows = 192;  ///< of a product: queries times the heads that share their keys
  std::int64_t keys = 256;
  std::int64_t units = 48;  ///< pieces of work that threads share, where there are so many
};

BlockResult attend_blocks(const BlockAttention& attention, const BlockWants& wants = {},
                          const BlockSizes& sizes = {});

/// Elements that lie in memory at most beside what goes in, without z: for B sequences of T
/// positions on so many threads.
std::int64_t block_elements(const ModelConfig& config, std::int64_t B, std::int64_t T, int threads);

}  // namespace plumb
