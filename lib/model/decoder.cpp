#include "model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"

namespace plumb {

namespace {

// A shared piece of a lone tile's matrix products: fewer columns pack the inputs more often, fewer
// rows the weights.
constexpr std::int64_t rows_per_piece = 1024;
constexpr std::int64_t columns_per_piece = 384;

// B: sequences of the tile, T: positions, H: heads, K: key heads, G = H / K.

class Decoder {
 public:
  Decoder(const DecoderInputs& inputs, Tap& tap)
      : inputs_(inputs), model_(inputs.model), config_(inputs.model.config()), tap_(tap) {}

  at::Tensor embed(const at::Tensor& ids) {
    at::Tensor x = tap_({Part::embed}, at::embedding(model_.weight(Weight::embed), ids));
    if (config_.positions == Positions::learned) {
      const at::Tensor rows = model_.weight(Weight::pos_embed).index_select(0, inputs_.positions);
      x = x + tap_({Part::pos_embed}, rows.unsqueeze(0).expand_as(x));
    }
    return x;
  }

  at::Tensor block(int layer, const at::Tensor& stream) {
    at::Tensor x = tap_({Part::resid_pre, layer}, stream);
    x = x + tap_({Part::attn_out, layer}, attention(layer, x));
    x = tap_({Part::resid_mid, layer}, x);
    if (ends_with_attention(layer)) return x;
    x = x + tap_({Part::mlp_out, layer}, mlp(layer, x));
    return tap_({Part::resid_post, layer}, x);
  }

  at::Tensor unembed(const at::Tensor& stream, const at::Tensor& out) {
    const at::Tensor x = tap_({Part::resid_final}, stream);
    const at::Tensor normed =
        normalise(x, {Part::final_scale}, Weight::final_norm, Weight::final_norm_bias, 0, true);
    return tap_({Part::logits}, linear(normed, model_.weight(Weight::unembed), {}, out));
  }

 private:
  // (x - mean) / deviation or x / rms, times the gain. `record` is false where the same scale site
  // was met before in this block.
  at::Tensor normalise(const at::Tensor& x, Site scale_site, Weight gain, Weight bias, int layer,
                       bool record) {
    const bool centred = config_.norm == Norm::layer;
    const at::Tensor y = centred ? x - x.mean(-1, true) : x;
    at::Tensor scale = (y.square().mean(-1, true) + config_.norm_eps).rsqrt();
    scale = record ? tap_(scale_site, scale) : tap_.edit(scale_site, scale);
    at::Tensor result = y * scale * model_.weight(gain, layer);
    if (centred) result = result + model_.weight(bias, layer);
    return result;
  }

  at::Tensor project(const at::Tensor& x, Weight weight, Weight bias, int layer) const {
    return linear(x, model_.weight(weight, layer), model_.weight(bias, layer), {});
  }

  // x W^T + b, into `out` if that is defined. A lone tile's product is cut into pieces that threads
  // share; the pieces depend on the shape alone, so the bits do not depend on the threads.
  at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const at::Tensor& out) const {
    if (!inputs_.lone && !out.defined()) return at::linear(x, weight, bias);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    const at::Tensor result = out.defined() ? out : at::empty(shape, x.options());
    const at::Tensor from = x.reshape({-1, x.size(-1)});
    const at::Tensor into = result.view({-1, weight.size(0)});
    const std::int64_t rows = from.size(0);
    const std::int64_t columns = into.size(1);
    const std::int64_t height = inputs_.lone ? std::min(rows, rows_per_piece) : rows;
    const std::int64_t width = inputs_.lone ? std::min(columns, columns_per_piece) : columns;
    const std::int64_t across = (columns + width - 1) / width;
    const std::int64_t down = (rows + height - 1) / height;
    share(across * down, [&](std::int64_t piece) {
      const std::int64_t row = piece / across * height;
      const std::int64_t column = piece % across * width;
      const at::Tensor a = from.narrow(0, row, std::min(height, rows - row));
      const std::int64_t count = std::min(width, columns - column);
      const at::Tensor b = weight.narrow(0, column, count).t();
      at::Tensor part = into.narrow(0, row, a.size(0)).narrow(1, column, count);
      if (bias.defined()) {
        at::addmm_out(part, bias.narrow(0, column, count), a, b);
      } else {
        at::mm_out(part, a, b);
      }
    });
    return result;
  }

  // [n, a, b] times [n, b, c]
  at::Tensor batched_product(const at::Tensor& a, const at::Tensor& b) const {
    if (!inputs_.lone) return at::bmm(a, b);
    const at::Tensor result = at::empty({a.size(0), a.size(1), b.size(2)}, a.options());
    share(a.size(0), [&](std::int64_t i) {
      at::Tensor part = result.select(0, i);
      at::mm_out(part, a.select(0, i), b.select(0, i));
    });
    return result;
  }

  at::Tensor head_norm(const at::Tensor& x, Weight gain, int layer) const {
    const at::Tensor scale = (x.square().mean(-1, true) + config_.norm_eps).rsqrt();
    return x * scale * model_.weight(gain, layer);
  }

  // Nobody reads the MLP of the last block of a run that stops there, unless the plan does.
  bool ends_with_attention(int layer) const {
    if (!inputs_.plan.until || layer + 1 != *inputs_.plan.until) return false;
    for (const Part part : {Part::mlp_in, Part::ln2_scale, Part::mlp_pre, Part::mlp_up,
                            Part::mlp_post, Part::mlp_out, Part::resid_post}) {
      if (tap_.wants({part, layer})) return false;
    }
    return true;
  }

  bool rotates(int layer) const {
    return config_.positions == Positions::rope &&
           (config_.rope_layers.empty() ||
            config_.rope_layers[static_cast<std::size_t>(layer)] != 0);
  }

  at::Tensor attention(int layer, const at::Tensor& x) {
    const std::int64_t B = x.size(0);
    const std::int64_t T = x.size(1);
    const std::int64_t H = config_.heads;
    const std::int64_t K = config_.kv_heads;
    const std::int64_t d_head = config_.d_head;

    // The three readers share one normalised stream unless the plan tells them apart.
    const auto read = [&](Part part, bool record) {
      return normalise(tap_({part, layer}, x), {Part::ln1_scale, layer}, Weight::ln1,
                       Weight::ln1_bias, layer, record);
    };
    const bool apart = tap_.wants({Part::q_in, layer}) || tap_.wants({Part::k_in, layer}) ||
                       tap_.wants({Part::v_in, layer});
    const at::Tensor q_in = read(Part::q_in, true);
    const at::Tensor k_in = apart ? read(Part::k_in, false) : q_in;
    const at::Tensor v_in = apart ? read(Part::v_in, false) : q_in;

    const at::Tensor v = tap_(
        {Part::v, layer}, project(v_in, Weight::v, Weight::v_bias, layer).view({B, T, K, d_head}));

    // One key: the pattern is exactly 1 whatever q and k are.
    const bool single_key = T == 1 && !tap_.wants({Part::q, layer}) &&
                            !tap_.wants({Part::k, layer}) && !tap_.wants({Part::scores, layer}) &&
                            !tap_.wants({Part::pattern, layer});
    at::Tensor z;
    if (single_key) {
      z = v.unsqueeze(3).expand({B, T, K, H / K, d_head}).reshape({B, T, H, d_head});
    } else {
      at::Tensor q = project(q_in, Weight::q, Weight::q_bias, layer).view({B, T, H, d_head});
      at::Tensor k = project(k_in, Weight::k, Weight::k_bias, layer).view({B, T, K, d_head});
      if (config_.qk_norm) {
        q = head_norm(q, Weight::q_norm, layer);
        k = head_norm(k, Weight::k_norm, layer);
      }
      if (rotates(layer)) {
        q = rotate(q, inputs_.rope, config_.rope.dims);
        k = rotate(k, inputs_.rope, config_.rope.dims);
      }
      z = mix(layer, tap_({Part::q, layer}, q), tap_({Part::k, layer}, k), v);
    }
    z = tap_({Part::z, layer}, z);
    if (tap_.wants({Part::head_out, layer})) {
      const at::Tensor written = tap_({Part::head_out, layer}, head_outputs(layer, z));
      if (tap_.edits({Part::head_out, layer})) {
        const at::Tensor sum = written.sum(2);
        const at::Tensor& bias = model_.weight(Weight::out_bias, layer);
        return bias.defined() ? sum + bias : sum;
      }
    }
    return project(z.reshape({B, T, H * d_head}), Weight::out, Weight::out_bias, layer);
  }

  // Scores, pattern and weighted values; a key head serves its G query heads in one product.
  at::Tensor mix(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const std::int64_t B = q.size(0);
    const std::int64_t T = q.size(1);
    const std::int64_t H = config_.heads;
    const std::int64_t K = config_.kv_heads;
    const std::int64_t G = H / K;
    const std::int64_t d_head = config_.d_head;
    const at::Tensor queries = (q * (1.0 / std::sqrt(static_cast<double>(d_head))))
                                   .permute({0, 2, 1, 3})
                                   .reshape({B * K, G * T, d_head});
    const at::Tensor keys = k.permute({0, 2, 3, 1}).reshape({B * K, d_head, T});
    const at::Tensor values = v.permute({0, 2, 1, 3}).reshape({B * K, T, d_head});
    at::Tensor scores = batched_product(queries, keys).view({B, H, T, T});
    const at::Tensor& mask = causal_mask(layer, T, q);
    scores = inputs_.plan.gradients ? scores + mask : scores.add_(mask);
    scores = tap_({Part::scores, layer}, scores);
    const at::Tensor pattern = tap_({Part::pattern, layer}, at::softmax(scores, -1));
    return batched_product(pattern.reshape({B * K, G * T, T}), values)
        .view({B, H, T, d_head})
        .permute({0, 2, 1, 3})
        .contiguous();
  }

  // [T, T]: 0 where a query sees a key, -infinity elsewhere.
  const at::Tensor& causal_mask(int layer, std::int64_t T, const at::Tensor& like) {
    const int window =
        config_.windows.empty() ? 0 : config_.windows[static_cast<std::size_t>(layer)];
    if (mask_.defined() && window == mask_window_) return mask_;
    const at::Tensor index =
        at::arange(T, at::TensorOptions().dtype(at::kLong).device(like.device()));
    const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
    at::Tensor hidden = distance < 0;
    if (window > 0) hidden = hidden.logical_or(distance >= window);
    mask_ = at::zeros({T, T}, like.options())
                .masked_fill(hidden, -std::numeric_limits<double>::infinity());
    mask_window_ = window;
    return mask_;
  }

  // [B, T, H, d_model]
  at::Tensor head_outputs(int layer, const at::Tensor& z) const {
    const std::int64_t H = config_.heads;
    const at::Tensor out =
        model_.weight(Weight::out, layer).view({config_.d_model, H, config_.d_head});
    const at::Tensor rows = z.reshape({-1, H, config_.d_head}).transpose(0, 1);
    return at::bmm(rows, out.permute({1, 2, 0}))
        .transpose(0, 1)
        .reshape({z.size(0), z.size(1), H, config_.d_model});
  }

  at::Tensor activate(const at::Tensor& x) const {
    switch (config_.activation) {
      case Activation::silu: return at::silu(x);
      case Activation::gelu: return at::gelu(x);
      case Activation::gelu_tanh: return at::gelu(x, "tanh");
      case Activation::relu: return at::relu(x);
    }
    return x;
  }

  // In place where no gradient needs the factor: one tensor as wide as the MLP less.
  at::Tensor multiply(at::Tensor factor, const at::Tensor& by) const {
    return inputs_.plan.gradients ? factor * by : factor.mul_(by);
  }

  at::Tensor mlp(int layer, const at::Tensor& x) {
    const at::Tensor in = normalise(tap_({Part::mlp_in, layer}, x), {Part::ln2_scale, layer},
                                    Weight::ln2, Weight::ln2_bias, layer, true);
    at::Tensor post;
    if (config_.gated_mlp) {
      const at::Tensor gate =
          tap_({Part::mlp_pre, layer}, project(in, Weight::gate, Weight::gate_bias, layer));
      const at::Tensor up =
          tap_({Part::mlp_up, layer}, project(in, Weight::up, Weight::up_bias, layer));
      post = multiply(activate(gate), up);
    } else {
      post =
          activate(tap_({Part::mlp_pre, layer}, project(in, Weight::up, Weight::up_bias, layer)));
    }
    return project(tap_({Part::mlp_post, layer}, post), Weight::down, Weight::down_bias, layer);
  }

  const DecoderInputs& inputs_;
  const Model& model_;
  const ModelConfig& config_;
  Tap& tap_;
  at::Tensor mask_;
  int mask_window_ = 0;
};

}  // namespace

at::Tensor decode(const DecoderInputs& inputs, const Tile& tile, const at::Tensor& stream,
                  const at::Tensor& out, Tap& tap) {
  Decoder decoder(inputs, tap);
  const int last = inputs.plan.until.value_or(inputs.model.config().layers);
  int layer = 0;
  at::Tensor x = stream;
  if (inputs.plan.restart) {
    layer = inputs.plan.restart->layer;
  } else {
    x = decoder.embed(tile.ids);
  }
  for (; layer < last; ++layer) x = decoder.block(layer, x);
  if (inputs.plan.until) return {};
  const bool wanted = inputs.plan.logits == Logits::all || tap.wants({Part::logits});
  if (!wanted && !tap.wants({Part::resid_final}) && !tap.wants({Part::final_scale})) return {};
  const at::Tensor logits = decoder.unembed(x, out);
  return inputs.plan.logits == Logits::all ? logits : at::Tensor();
}

}  // namespace plumb
