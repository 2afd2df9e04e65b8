// The pieces of the forward pass over rows packed together, and attention of streams that share
// their past.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/attention.h"
#include "model/pass.h"

namespace plumb {

/// One pass over packed rows, [1, R, ...]. Nothing is recorded or edited: the tap is empty.
class Rows {
 public:
  /// `inputs` must outlive it; their rotation tables have a row for each packed row.
  Rows(const DecoderInputs& inputs, const at::Tensor& like);
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  Pass& pass() { return pass_; }
  Attention& attention() { return attention_; }

 private:
  Tile tile_;
  Tap tap_;
  Pass pass_;
  Attention attention_;
};

/// z [B, n, Q, H, d_head] of n streams for each of B sequences: queries [B, n, Q, H, d_head] see
/// the shared past [B, t, K, d_head] and their own stream's keys and values [B, n, N, K, d_head]
/// behind it. The bias broadcasts against scores [B * n, H, Q, t + N].
at::Tensor mix(Attention& attention, int layer, const at::Tensor& q, const at::Tensor& k,
               const at::Tensor& v, const at::Tensor& past_k, const at::Tensor& past_v,
               const at::Tensor& bias);

/// Of the bias on scores, [T, T] or [H, T, T], the rows of some queries of each sequence: `reads`
/// [B, P] gives [B * n, 1 or H, P, T].
at::Tensor of_reads(const at::Tensor& bias, const at::Tensor& reads, std::int64_t n);

}  // namespace plumb
