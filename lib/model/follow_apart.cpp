// Attention of a block in which queries, keys or values alone read another stream.
#include <ATen/ATen.h>

#include "model/follow.h"

namespace plumb {

// B: sequences, n: streams of one, N: live positions, Q: those of the queries, R: rows packed.

at::Tensor Follower::attend_apart(Part part, int layer, const Branch& branch, bool at_reads) const {
  const ModelConfig& config = model_.config();
  const auto place = static_cast<std::size_t>(layer);
  const at::Tensor& plain = trunk_.resid_pre[place];
  const std::int64_t B = branch.stream.size(0);
  const std::int64_t n = branch.stream.size(1);
  const std::int64_t N = branch.stream.size(2);
  const std::int64_t d = branch.stream.size(3);
  const at::Tensor live = positions_.narrow(0, branch.from, N);
  const at::Tensor where =
      at_reads ? reads_.clamp_min(branch.from) : live.expand({B, N});  // [B, Q]
  const std::int64_t Q = where.size(1);

  const bool queries = part == Part::q;
  const std::int64_t m = queries ? n : 1;  // streams that queries read, of each sequence
  at::Tensor read;                         // [B, m, Q, d]
  if (!at_reads) {
    read = queries ? branch.stream : plain.narrow(1, branch.from, N).unsqueeze(1);
  } else if (queries) {
    read = branch.stream.gather(2, (where - branch.from).view({B, 1, Q, 1}).expand({B, n, Q, d}));
  } else {
    read = plain.gather(1, where.unsqueeze(2).expand({B, Q, d})).unsqueeze(1);
  }
  const DecoderInputs of_queries = inputs(where.unsqueeze(1).expand({B, m, Q}).reshape({-1}));
  Rows reader(of_queries, plain);
  Attention& attention = reader.attention();
  const at::Tensor in = attention.read(layer, read.reshape({1, -1, d}), Part::q_in, true);
  const at::Tensor q = attention.queries_or_keys(layer, in, true)
                           .view({B, m, Q, config.heads, config.d_head})
                           .expand({B, n, Q, config.heads, config.d_head})
                           .contiguous();

  // The past is what all streams of a sequence share: of queries alone, all keys and values.
  const std::int64_t past = queries ? branch.from + N : branch.from;
  const auto shared = [&](const at::Tensor& all) {
    return all.narrow(1, past, branch.from + N - past)
        .unsqueeze(1)
        .expand({B, n, branch.from + N - past, config.kv_heads, config.d_head});
  };
  at::Tensor k = shared(trunk_.k[place]);
  at::Tensor v = shared(trunk_.v[place]);
  if (!queries) {
    const DecoderInputs of_keys = inputs(live.expand({B * n, N}).reshape({-1}));
    Rows rows(of_keys, plain);
    const at::Tensor own =
        rows.attention().read(layer, branch.stream.reshape({1, -1, d}), Part::q_in, true);
    (part == Part::k ? k : v) =
        (part == Part::k ? rows.attention().queries_or_keys(layer, own, false)
                         : rows.attention().values(layer, own))
            .view({B, n, N, config.kv_heads, config.d_head});
  }
  const at::Tensor& bias = attention.score_bias(layer, positions_.size(0), plain);
  const at::Tensor z = mix(attention, layer, q, k, v, trunk_.k[place].narrow(1, 0, past),
                           trunk_.v[place].narrow(1, 0, past),
                           at_reads ? of_reads(bias, where, n) : bias.narrow(-2, branch.from, N));
  if (!config.gated_attention) return z;
  const at::Tensor gate_in = in.view({B, m, Q, d}).expand({B, n, Q, d}).reshape({1, B * n * Q, d});
  return attention.gated(layer, z.reshape({1, B * n * Q, config.heads, config.d_head}), gate_in)
      .view(z.sizes());
}

}  // namespace plumb
