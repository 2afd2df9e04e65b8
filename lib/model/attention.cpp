#include "model/attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "model/block_attention.h"
#include "model/streamed_plan.h"
#include "plumb/streamed.h"

namespace plumb {

// B: sequences of the tile, T: positions, H: heads, K: key heads, G = H / K.

namespace {

// [H, 1, 1]: the heads' slopes fall in equal ratios down to 2^-bias; where H is no power of two,
// those of the next one are taken, every second first (arXiv:2108.12409, as its models do it).
at::Tensor alibi_slopes(int heads, double bias) {
  int power = 1;
  while (power < heads) power *= 2;
  std::vector<double> slopes;
  const auto add = [&](int first, int step) {
    for (int i = first; i <= power && static_cast<int>(slopes.size()) < heads; i += step) {
      slopes.push_back(std::exp2(-bias * i / power));
    }
  };
  if (power == heads) {
    add(1, 1);
  } else {
    add(2, 2);
    add(1, 2);
  }
  return at::tensor(slopes, at::kDouble).view({-1, 1, 1});
}

}  // namespace

at::Tensor Attention::operator()(int layer, const at::Tensor& x) {
  const std::int64_t T = x.size(1);

  // The three readers share one normalised stream unless the plan tells them apart.
  const bool apart = tap_.wants({Part::q_in, layer}) || tap_.wants({Part::k_in, layer}) ||
                     tap_.wants({Part::v_in, layer});
  const at::Tensor q_in = read(layer, x, Part::q_in, true);
  const at::Tensor k_in = apart ? read(layer, x, Part::k_in, false) : q_in;
  const at::Tensor v_in = apart ? read(layer, x, Part::v_in, false) : q_in;

  // One key: the pattern is exactly 1 whatever q and k are.
  const bool single_key = T == 1 && !config_.sink_logits && !tap_.wants({Part::q, layer}) &&
                          !tap_.wants({Part::k, layer}) && !tap_.wants({Part::scores, layer}) &&
                          !tap_.wants({Part::pattern, layer});
  Projections projected{.v = pass_.project(v_in, Weight::v, Weight::v_bias, layer)};
  if (!single_key) {
    projected.q = pass_.project(q_in, Weight::q, Weight::q_bias, layer);
    projected.k = pass_.project(k_in, Weight::k, Weight::k_bias, layer);
  }
  const at::Tensor z = attend(layer, std::move(projected));
  return write(layer, tap_({Part::z, layer}, gated(layer, z, q_in)));
}

Projections Attention::project(int layer, const at::Tensor& in) const {
  Projections made{.q = pass_.project(in, Weight::q, Weight::q_bias, layer),
                   .k = pass_.project(in, Weight::k, Weight::k_bias, layer),
                   .v = pass_.project(in, Weight::v, Weight::v_bias, layer)};
  if (config_.gated_attention)
    made.gate = pass_.linear(in, pass_.weight(Weight::z_gate, layer), {});
  return made;
}

at::Tensor Attention::attend(int layer, Projections projected) {
  const at::Tensor v = tap_({Part::v, layer}, clipped(std::exchange(projected.v, at::Tensor())));
  at::Tensor z;
  if (projected.q.defined()) {
    const at::Tensor q =
        tap_({Part::q, layer}, turned(layer, std::exchange(projected.q, at::Tensor()), true));
    const at::Tensor k =
        tap_({Part::k, layer}, turned(layer, std::exchange(projected.k, at::Tensor()), false));
    z = mix(layer, q, k, v);
  } else {
    const std::int64_t G = config_.heads / config_.kv_heads;
    z = v.unsqueeze(3)
            .expand({-1, -1, -1, G, -1})
            .reshape({v.size(0), v.size(1), config_.heads, config_.d_head});
  }
  if (!projected.gate.defined()) return z;
  return z *
         pass_.rules().held(tap_({Part::z_gate, layer}, projected.gate.view(z.sizes()).sigmoid()));
}

at::Tensor Attention::values(int layer, const at::Tensor& in) const {
  return clipped(pass_.project(in, Weight::v, Weight::v_bias, layer));
}

at::Tensor Attention::clipped(const at::Tensor& projected) const {
  const at::Tensor v =
      projected.view({projected.size(0), projected.size(1), config_.kv_heads, config_.d_head});
  if (config_.qkv_clip == 0) return v;
  return pass_.rules().ratio(v, v.clamp(-config_.qkv_clip, config_.qkv_clip));
}

at::Tensor Attention::gated(int layer, const at::Tensor& z, const at::Tensor& in) {
  if (!config_.gated_attention) return z;
  const at::Tensor gate = pass_.linear(in, pass_.weight(Weight::z_gate, layer), {});
  return z * tap_({Part::z_gate, layer}, gate.view(z.sizes()).sigmoid());
}

double Attention::factor() const {
  return config_.attention_scale > 0.0 ? config_.attention_scale
                                       : 1.0 / std::sqrt(static_cast<double>(config_.d_head));
}

bool Attention::windowed(int layer) const {
  return !config_.windows.empty() && config_.windows[static_cast<std::size_t>(layer)] > 0;
}

bool Attention::rotates(int layer) const {
  return config_.positions == Positions::rope &&
         (config_.rope_layers.empty() || config_.rope_layers[static_cast<std::size_t>(layer)] != 0);
}

at::Tensor Attention::read(int layer, const at::Tensor& stream, Part part, bool record) {
  const at::Tensor x = tap_({part, layer}, stream);
  if (config_.norm_place == NormPlace::after) return x;
  return pass_.normalise(x, {Part::ln1_scale, layer}, Weight::ln1, Weight::ln1_bias, layer, record);
}

at::Tensor Attention::queries_or_keys(int layer, const at::Tensor& in, bool queries) const {
  return turned(layer,
                queries ? pass_.project(in, Weight::q, Weight::q_bias, layer)
                        : pass_.project(in, Weight::k, Weight::k_bias, layer),
                queries);
}

at::Tensor Attention::turned(int layer, at::Tensor x, bool queries) const {
  const at::Tensor& gain = pass_.weight(queries ? Weight::q_norm : Weight::k_norm, layer);
  if (config_.qk_norm == QkNorm::whole) x = pass_.rms_norm(x, gain);
  x = x.view({x.size(0), x.size(1), x.size(2) / config_.d_head, config_.d_head});
  if (config_.qk_norm == QkNorm::head) x = pass_.rms_norm(x, gain);
  if (config_.qkv_clip > 0)
    x = pass_.rules().ratio(x, x.clamp(-config_.qkv_clip, config_.qkv_clip));
  const DecoderInputs& inputs = pass_.inputs();
  if (!rotates(layer)) return queries ? Pass::scaled(x, inputs.rope.growth) : x;
  x = windowed(layer) && config_.window_rope.dims > 0
          ? rotate(x, inputs.window_rope, config_.window_rope.dims)
          : rotate(x, inputs.rope, config_.rope.dims);
  return config_.qk_norm == QkNorm::rotated ? pass_.rms_norm(x, {}) : x;
}

// Scores, pattern and weighted values; a key head serves its G query heads in one product.
at::Tensor Attention::mix(int layer, const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v) {
  const std::int64_t B = q.size(0);
  const std::int64_t T = q.size(1);
  const std::int64_t H = config_.heads;
  const std::int64_t K = config_.kv_heads;
  const std::int64_t G = H / K;
  const std::int64_t d_head = config_.d_head;
  if (streams_attention(pass_.inputs().plan, layer, T, q.is_cpu()))
    return mix_in_blocks(layer, q, k, v);
  const at::Tensor queries =
      (widened(q) * factor()).permute({0, 2, 1, 3}).reshape({B * K, G * T, d_head});
  const at::Tensor keys = widened(k).permute({0, 2, 3, 1}).reshape({B * K, d_head, T});
  const at::Tensor values = widened(v).permute({0, 2, 1, 3}).reshape({B * K, T, d_head});
  const at::Tensor products = pass_.batched_product(queries, keys).view({B, H, T, T});
  at::Tensor weights = pattern(layer, products, score_bias(layer, T, q));
  if (pass_.rules().patterns) weights = weights.detach();
  return pass_.batched_product(weights.reshape({B * K, G * T, T}), values)
      .view({B, H, T, d_head})
      .permute({0, 2, 1, 3})
      .contiguous()
      .to(v.scalar_type());
}

// The same without ever making the scores; what is recorded of them comes along.
at::Tensor Attention::mix_in_blocks(int layer, const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v) {
  BlockAttention attention{.q = widened(q),
                           .k = widened(k),
                           .v = widened(v),
                           .factor = factor(),
                           .cap = config_.score_cap,
                           .chunked = config_.chunked};
  if (windowed(layer)) attention.window = config_.windows[static_cast<std::size_t>(layer)];
  if (config_.positions == Positions::alibi) {
    attention.slopes =
        alibi_slopes(config_.heads, config_.alibi_bias).mul(config_.alibi_scale).view({-1});
    attention.positions = pass_.inputs().positions.to(at::kDouble);
  }
  if (config_.sink_logits) attention.sinks = pass_.weight(Weight::sinks, layer);
  if (tap_.edits({Part::scores, layer})) {
    // Such edits only hide key 0: what they make of a column of zeros says from which queries.
    const at::Tensor column = at::zeros({1, config_.heads, q.size(1), 1}, attention.q.options());
    attention.first_unseen =
        tap_.edit({Part::scores, layer}, column).lt(0.0).view({config_.heads, q.size(1)});
  }

  const Tile& tile = tap_.tile();
  const std::vector<const Record*>& records = tap_.records({Part::pattern, layer});
  BlockWants wants;
  for (const Record* record : records) {
    const auto* received = record->reduce.target<ReceivedAttention>();
    if (received == nullptr) {
      wants.rows = true;
    } else {
      wants.columns.push_back({received->queries(tile.lengths, q.size(1)), received->own});
    }
  }
  BlockResult made = attend_blocks(attention, wants);
  const at::ScalarType type = attention.q.scalar_type();
  std::size_t column = 0;
  for (const Record* record : records) {
    if (const auto* rows = record->reduce.target<AttentionRows>()) {
      tap_.keep(*record, rows->then(made.rows, tile));
      continue;
    }
    // Queries that count for a key: those of weight 1 from it on, or after it.
    const BlockColumns& of = wants.columns[column];
    const at::Tensor from = of.queries.to(at::kDouble).flip(1).cumsum(1).flip(1);
    const at::Tensor count = of.own ? from : from - of.queries.to(at::kDouble);
    const at::Tensor mean = made.columns[column] / count.clamp_min(1.0).unsqueeze(1);
    tap_.keep(*record, mean.to(type));
    ++column;
  }
  for (const Record* record : tap_.records({Part::scores, layer})) {
    tap_.keep(*record, record->reduce.target<LogSumExp>()->then(made.log_sum_exp.to(type), tile));
  }
  return made.z.to(v.scalar_type());
}

at::Tensor Attention::pattern(int layer, at::Tensor products, const at::Tensor& bias) {
  at::Tensor scores = pass_.soft_cap(std::move(products), config_.score_cap);
  scores = pass_.in_place() ? scores.add_(bias) : scores + bias;
  scores = tap_({Part::scores, layer}, scores);
  at::Tensor pattern = at::softmax(scores, -1);
  if (config_.sink_logits) {
    const at::Tensor sinks = pass_.weight(Weight::sinks, layer).view({1, config_.heads, 1, 1});
    const at::Tensor mass = (sinks - scores.logsumexp(-1, true)).sigmoid();
    pattern = pattern * (1.0 - tap_({Part::sink_mass, layer}, mass));
  }
  return tap_({Part::pattern, layer}, pattern);
}

// [T, T]: 0 where a query sees a key, -infinity elsewhere; with alibi [H, T, T], the slope times
// the distance taken off.
const at::Tensor& Attention::score_bias(int layer, std::int64_t T, const at::Tensor& like) {
  const int window = windowed(layer) ? config_.windows[static_cast<std::size_t>(layer)] : 0;
  if (bias_.defined() && window == bias_window_) return bias_;
  const at::Tensor index =
      at::arange(T, at::TensorOptions().dtype(at::kLong).device(like.device()));
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  at::Tensor hidden = distance < 0;
  if (window > 0) {
    const at::Tensor chunk = index.div(window, "floor");
    hidden = hidden.logical_or(config_.chunked ? chunk.unsqueeze(1).ne(chunk.unsqueeze(0))
                                               : distance >= window);
  }
  const at::ScalarType type = sum_type(like.scalar_type());
  at::Tensor seen = at::zeros({T, T}, like.options().dtype(type));
  if (config_.positions == Positions::alibi) {
    const at::Tensor place = pass_.inputs().positions.to(at::kDouble);
    const at::Tensor slopes =
        alibi_slopes(config_.heads, config_.alibi_bias).mul(config_.alibi_scale).to(like.device());
    seen = (slopes * (place.unsqueeze(0) - place.unsqueeze(1))).to(type);
  }
  bias_ = seen.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  bias_window_ = window;
  return bias_;
}

// What the heads write, through the norm on it where there is one. That norm is linear once its
// scale is known, so that each head's share of the write is well defined.
at::Tensor Attention::write(int layer, const at::Tensor& z) {
  const at::Tensor whole = pass_.project(z.reshape({z.size(0), z.size(1), z.size(2) * z.size(3)}),
                                         Weight::out, Weight::out_bias, layer);
  const at::Tensor factor =
      pass_.write_factor(whole, {Part::ln1_post_scale, layer}, Weight::ln1_post, layer);
  if (tap_.wants({Part::head_out, layer})) {
    at::Tensor heads = head_outputs(layer, z);
    if (factor.defined()) heads = Pass::scaled(heads, factor.unsqueeze(2));
    heads = tap_({Part::head_out, layer}, heads);
    if (tap_.edits({Part::head_out, layer})) {
      const at::Tensor sum = heads.sum(2);
      const at::Tensor& bias = pass_.weight(Weight::out_bias, layer);
      if (!bias.defined()) return sum;
      return (sum + (factor.defined() ? bias * factor : bias)).to(sum.scalar_type());
    }
  }
  return Pass::scaled(whole, factor);
}

// [B, T, H, d_model]
at::Tensor Attention::head_outputs(int layer, const at::Tensor& z) const {
  const std::int64_t H = config_.heads;
  const at::Tensor out =
      pass_.weight(Weight::out, layer).view({config_.d_model, H, config_.d_head});
  const at::Tensor rows = z.reshape({-1, H, config_.d_head}).transpose(0, 1);
  return at::bmm(widened(rows), widened(out).permute({1, 2, 0}))
      .transpose(0, 1)
      .reshape({z.size(0), z.size(1), H, config_.d_model})
      .to(z.scalar_type());
}

}  // namespace plumb
