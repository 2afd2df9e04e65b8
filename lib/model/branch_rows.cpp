#include "model/branch_rows.h"

#include <ATen/ATen.h>

#include "core/precision.h"

namespace plumb {

Rows::Rows(const DecoderInputs& inputs, const at::Tensor& like)
    : tile_{.first = 0, .ids = at::empty({1, 0}, like.options().dtype(at::kLong)), .lengths = {}},
      tap_(inputs.plan, tile_, 1),
      pass_(inputs, tap_),
      attention_(pass_) {}

// B: sequences, n: streams of one, Q: queries of a stream, N: its live positions, t: those before,
// H: heads, K: key heads, G = H / K.
at::Tensor mix(Attention& attention, int layer, const at::Tensor& q, const at::Tensor& k,
               const at::Tensor& v, const at::Tensor& past_k, const at::Tensor& past_v,
               const at::Tensor& bias) {
  if (is_narrow(q.scalar_type())) {
    return mix(attention, layer, widened(q), widened(k), widened(v), widened(past_k),
               widened(past_v), bias)
        .to(q.scalar_type());
  }
  const auto B = q.size(0);
  const auto n = q.size(1);
  const auto Q = q.size(2);
  const auto H = q.size(3);
  const auto d = q.size(4);
  const auto N = k.size(2);
  const auto K = k.size(3);
  const auto G = H / K;
  const auto t = past_k.size(1);
  // [B, n, K, G, Q, d]
  const at::Tensor queries =
      (q * attention.factor()).view({B, n, Q, K, G, d}).permute({0, 1, 3, 4, 2, 5});
  const at::Tensor own_keys = k.permute({0, 1, 3, 4, 2}).reshape({B * n * K, d, N});
  at::Tensor scores =
      at::bmm(queries.reshape({B * n * K, G * Q, d}), own_keys).view({B * n, H, Q, N});
  if (t > 0) {
    // The past's keys are shared by all streams of a sequence.
    const at::Tensor past = at::bmm(queries.permute({0, 2, 1, 3, 4, 5}).reshape({B * K, -1, d}),
                                    past_k.permute({0, 2, 3, 1}).reshape({B * K, d, t}))
                                .view({B, K, n, G, Q, t})
                                .permute({0, 2, 1, 3, 4, 5})
                                .reshape({B * n, H, Q, t});
    scores = at::cat({past, scores}, -1);
  }
  const at::Tensor pattern = attention.pattern(layer, scores, bias);
  at::Tensor z = at::bmm(pattern.narrow(-1, t, N).reshape({B * n * K, G * Q, N}),
                         v.permute({0, 1, 3, 2, 4}).reshape({B * n * K, N, d}))
                     .view({B, n, K, G, Q, d});
  if (t > 0) {
    const at::Tensor weights = pattern.narrow(-1, 0, t)
                                   .view({B, n, K, G, Q, t})
                                   .permute({0, 2, 1, 3, 4, 5})
                                   .reshape({B * K, n * G * Q, t});
    z = z + at::bmm(weights, past_v.permute({0, 2, 1, 3}).reshape({B * K, t, d}))
                .view({B, K, n, G, Q, d})
                .permute({0, 2, 1, 3, 4, 5});
  }
  return z.permute({0, 1, 4, 2, 3, 5}).reshape({B, n, Q, H, d});
}

at::Tensor of_reads(const at::Tensor& bias, const at::Tensor& reads, std::int64_t n) {
  const auto B = reads.size(0);
  const auto P = reads.size(1);
  const at::Tensor rows = bias.index_select(-2, reads.reshape({-1}));  // [B P, T], [H, B P, T]
  const at::Tensor each = rows.dim() == 2
                              ? rows.view({B, 1, P, rows.size(1)})
                              : rows.view({rows.size(0), B, P, rows.size(2)}).transpose(0, 1);
  return each.repeat_interleave(n, 0);
}

}  // namespace plumb
