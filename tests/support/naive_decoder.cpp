#include "support/naive_decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace plumb::test {

namespace {

struct Naive {
  const ModelConfig& config;
  const Model::Source& weights;
  const NaiveOptions& options;

  at::Tensor weight(Weight which, int layer) const { return weights(which, layer).to(at::kDouble); }

  void hook(Part part, int layer, at::Tensor& value) const {
    if (options.hook) options.hook(Site{part, layer}, value);
  }

  // x W^T, plus a bias where the model has one.
  at::Tensor linear(const at::Tensor& x, Weight matrix, Weight bias, bool biased, int layer) const {
    at::Tensor y = at::matmul(x, weight(matrix, layer).t());
    return biased ? y + weight(bias, layer) : y;
  }

  at::Tensor rms(const at::Tensor& x, const at::Tensor& gain) const {
    return x / at::sqrt(at::mean(x * x, {-1}, true) + config.norm_eps) * gain;
  }

  at::Tensor norm(const at::Tensor& x, Weight gain, Weight bias, int layer) const {
    const at::Tensor one = at::ones({1}, at::kDouble);
    const at::Tensor factor = config.norm_gain ? weight(gain, layer) : one;
    if (config.norm == Norm::rms) return rms(x, factor);
    const at::Tensor centred = x - at::mean(x, {-1}, true);
    const at::Tensor variance = at::mean(centred * centred, {-1}, true);
    const at::Tensor result = centred / at::sqrt(variance + config.norm_eps) * factor;
    return config.norm_gain && config.norm_bias ? result + weight(bias, layer) : result;
  }

  // What a sublayer reads and what it adds to the stream, under the norms the model has there.
  at::Tensor reading(const at::Tensor& x, Weight gain, Weight bias, int layer) const {
    return config.norm_place == NormPlace::after ? x : norm(x, gain, bias, layer);
  }
  at::Tensor writing(const at::Tensor& x, Weight gain, int layer) const {
    return config.norm_place == NormPlace::before ? x : norm(x, gain, gain, layer);
  }

  static at::Tensor capped(const at::Tensor& x, double cap) {
    return cap > 0 ? cap * at::tanh(x / cap) : x;
  }

  at::Tensor clipped(const at::Tensor& x) const {
    if (config.qkv_clip == 0) return x;
    return at::minimum(at::maximum(x, at::full({1}, -config.qkv_clip, at::kDouble)),
                       at::full({1}, config.qkv_clip, at::kDouble));
  }

  // Bias per step of distance of one head: a geometric series; where the heads are not a power of
  // two, the odd members of the next finer series follow its even ones.
  double slope(int head) const {
    int power = 1;
    while (power < config.heads) power *= 2;
    int member = head + 1;
    if (power != config.heads) {
      member = head < power / 2 ? 2 * (head + 1) : 2 * (head - power / 2) + 1;
    }
    return config.alibi_scale / std::pow(2.0, config.alibi_bias * member / power);
  }

  at::Tensor activate(const at::Tensor& x) const {
    constexpr double pi = std::numbers::pi;
    switch (config.activation) {
      case Activation::silu: return x / (1.0 + at::exp(-x));
      case Activation::gelu: return 0.5 * x * (1.0 + at::erf(x / std::sqrt(2.0)));
      case Activation::gelu_tanh:
        return 0.5 * x * (1.0 + at::tanh(std::sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)));
      case Activation::relu: return at::clamp_min(x, 0.0);
    }
    return x;
  }

  // Turns per position of each pair of channels, and the factor on cosines and sines.
  static std::pair<std::vector<double>, double> rotation(const Rope& rope, std::int64_t length) {
    constexpr double turn = 2.0 * std::numbers::pi;
    const double dims = rope.dims;
    double theta = rope.theta;
    const double original = rope.original_context;
    if (rope.scaling == RopeScaling::dynamic && static_cast<double>(length) > original) {
      const double grown = rope.factor * static_cast<double>(length) / original - (rope.factor - 1);
      theta *= std::pow(grown, dims / (dims - 2.0));
    }
    double low = 0.0;
    double high = 0.0;
    if (rope.scaling == RopeScaling::yarn) {
      const auto pair_of = [&](double turns) {
        return dims * std::log(original / (turns * turn)) / (2.0 * std::log(theta));
      };
      low = pair_of(rope.beta_fast);
      high = pair_of(rope.beta_slow);
      if (rope.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
      }
      low = std::max(low, 0.0);
      high = std::min(high, dims - 1.0);
      if (low == high) high += 0.001;
    }
    std::vector<double> rates;
    for (int pair = 0; pair < rope.dims / 2; ++pair) {
      double rate = std::pow(theta, -2.0 * pair / dims);
      if (rope.scaling == RopeScaling::linear) rate /= rope.factor;
      if (rope.scaling == RopeScaling::llama3) {
        const double turns = original * rate / turn;  // within the original context
        if (turns < rope.low_freq_factor) {
          rate /= rope.factor;
        } else if (turns <= rope.high_freq_factor) {
          const double mix =
              (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
          rate = (1.0 - mix) * rate / rope.factor + mix * rate;
        }
      }
      if (rope.scaling == RopeScaling::yarn) {
        const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
        rate = rate * (1.0 - ramp) + rate / rope.factor * ramp;
      }
      if (rope.scaling == RopeScaling::longrope) {
        const bool longer = static_cast<double>(length) > original;
        rate /=
            (longer ? rope.long_factors : rope.short_factors).at(static_cast<std::size_t>(pair));
      }
      rates.push_back(rate);
    }
    const bool scaled = rope.scaling == RopeScaling::yarn || rope.scaling == RopeScaling::longrope;
    return {rates, scaled ? rope.attention_factor : 1.0};
  }

  // Pair by pair; x is [B, T, heads, d_head].
  at::Tensor rotate(const at::Tensor& x, const Rope& rope) const {
    const std::int64_t length = x.size(1);
    const auto [rates, factor] = rotation(rope, options.first_position + length);
    const at::Tensor position =
        at::arange(options.first_position, options.first_position + length, x.options())
            .view({1, length, 1});
    at::Tensor result = x.clone();
    const auto half = static_cast<std::int64_t>(rates.size());
    for (std::int64_t pair = 0; pair < half; ++pair) {
      const at::Tensor angle = position * rates[static_cast<std::size_t>(pair)];
      const at::Tensor cosine = at::cos(angle) * factor;
      const at::Tensor sine = at::sin(angle) * factor;
      const at::Tensor a = x.select(3, pair);
      const at::Tensor b = x.select(3, pair + half);
      result.select(3, pair).copy_(a * cosine - b * sine);
      result.select(3, pair + half).copy_(b * cosine + a * sine);
    }
    return result;
  }

  at::Tensor attention(const at::Tensor& stream, int layer, NaiveRun& run) const {
    const ModelConfig& c = config;
    const std::int64_t batch = stream.size(0);
    const std::int64_t length = stream.size(1);
    const at::Tensor x = reading(stream, Weight::ln1, Weight::ln1_bias, layer);
    at::Tensor q = linear(x, Weight::q, Weight::q_bias, c.qkv_bias, layer);
    at::Tensor k = linear(x, Weight::k, Weight::k_bias, c.qkv_bias, layer);
    at::Tensor v = linear(x, Weight::v, Weight::v_bias, c.qkv_bias, layer);
    if (c.qk_norm == QkNorm::whole) {
      q = rms(q, weight(Weight::q_norm, layer));
      k = rms(k, weight(Weight::k_norm, layer));
    }
    q = q.reshape({batch, length, c.heads, c.d_head});
    k = k.reshape({batch, length, c.kv_heads, c.d_head});
    v = v.reshape({batch, length, c.kv_heads, c.d_head});
    if (c.qk_norm == QkNorm::head) {
      q = rms(q, weight(Weight::q_norm, layer));
      k = rms(k, weight(Weight::k_norm, layer));
    }
    q = clipped(q);
    k = clipped(k);
    v = clipped(v);
    const auto index = static_cast<std::size_t>(layer);
    const int window = c.windows.empty() ? 0 : c.windows[index];
    if (c.positions == Positions::rope && (c.rope_layers.empty() || c.rope_layers[index] != 0)) {
      const Rope& rope = window > 0 && c.window_rope.dims > 0 ? c.window_rope : c.rope;
      q = rotate(q, rope);
      k = rotate(k, rope);
      if (c.qk_norm == QkNorm::rotated) {
        q = rms(q, at::ones({1}, at::kDouble));
        k = rms(k, at::ones({1}, at::kDouble));
      }
    } else if (c.positions == Positions::rope && c.rope.query_growth > 0) {
      for (std::int64_t t = 0; t < length; ++t) {
        const std::int64_t spans = (options.first_position + t + 1) / c.rope.query_span;
        q.select(1, t).mul_(1.0 + c.rope.query_growth * std::log(1.0 + static_cast<double>(spans)));
      }
    }
    hook(Part::q, layer, q);
    hook(Part::k, layer, k);
    hook(Part::v, layer, v);

    const at::Tensor place = at::arange(length, at::kLong);
    const at::Tensor back = place.unsqueeze(1) - place.unsqueeze(0);  // query minus key
    at::Tensor hidden = back < 0;
    if (window > 0 && c.chunked) {
      // As many keys back as the query stands behind the start of its chunk.
      hidden = hidden.logical_or(back > place.remainder(window).unsqueeze(1));
    } else if (window > 0) {
      hidden = hidden.logical_or(back >= window);
    }

    const int group = c.heads / c.kv_heads;
    std::vector<at::Tensor> each;
    for (int h = 0; h < c.heads; ++h) {
      const at::Tensor keys = k.select(2, h / group);
      at::Tensor score = at::matmul(q.select(2, h), keys.transpose(1, 2));
      score = c.attention_scale > 0 ? score * c.attention_scale
                                    : score / std::sqrt(static_cast<double>(c.d_head));
      score = capped(score, c.score_cap);
      if (c.positions == Positions::alibi) score = score - back.to(at::kDouble) * slope(h);
      each.push_back(score.masked_fill(hidden, -std::numeric_limits<double>::infinity()));
    }
    at::Tensor scores = at::stack(each, 1);
    hook(Part::scores, layer, scores);
    at::Tensor pattern;
    if (c.sink_logits) {
      const at::Tensor extra =
          weight(Weight::sinks, layer).view({1, c.heads, 1, 1}).expand({batch, c.heads, length, 1});
      pattern = at::softmax(at::cat({scores, extra}, -1), -1).narrow(-1, 0, length);
    } else {
      pattern = at::softmax(scores, -1);
    }
    hook(Part::pattern, layer, pattern);
    run.patterns.push_back(pattern);

    std::vector<at::Tensor> mixed;
    for (int h = 0; h < c.heads; ++h) {
      mixed.push_back(at::matmul(pattern.select(1, h), v.select(2, h / group)));
    }
    at::Tensor z = at::stack(mixed, 2);
    if (c.gated_attention) {
      const at::Tensor gate = linear(x, Weight::z_gate, Weight::z_gate, false, layer);
      at::Tensor open = (1.0 / (1.0 + at::exp(-gate))).reshape(z.sizes());
      hook(Part::z_gate, layer, open);
      z = z * open;
    }
    hook(Part::z, layer, z);
    if (options.heads) return by_heads(z, layer);
    return writing(linear(z.reshape({batch, length, c.heads * c.d_head}), Weight::out,
                          Weight::out_bias, c.out_bias, layer),
                   Weight::ln1_post, layer);
  }

  // Each head's write by itself, divided by the norm's root mean square over all of them where
  // there is a norm.
  at::Tensor by_heads(const at::Tensor& z, int layer) const {
    const at::Tensor out = weight(Weight::out, layer);
    std::vector<at::Tensor> each;
    for (int h = 0; h < config.heads; ++h) {
      each.push_back(
          at::matmul(z.select(2, h), out.narrow(1, h * config.d_head, config.d_head).t()));
    }
    at::Tensor heads = at::stack(each, 2);
    at::Tensor bias =
        config.out_bias ? weight(Weight::out_bias, layer) : at::zeros({1}, at::kDouble);
    if (config.norm_place != NormPlace::before) {
      const at::Tensor whole = heads.sum(2) + bias;
      const at::Tensor factor = 1.0 /
                                at::sqrt(at::mean(whole * whole, {-1}, true) + config.norm_eps) *
                                weight(Weight::ln1_post, layer);
      heads = heads * factor.unsqueeze(2);
      bias = bias * factor;
    }
    hook(Part::head_out, layer, heads);
    return heads.sum(2) + bias;
  }

  at::Tensor gated(const at::Tensor& gate, const at::Tensor& up) const {
    const Experts& e = config.experts;
    if (e.limit == 0) return activate(gate) * up;
    const at::Tensor g = at::minimum(gate, at::full_like(gate, e.limit));
    const at::Tensor u =
        at::maximum(at::minimum(up, at::full_like(up, e.limit)), at::full_like(up, -e.limit));
    return g / (1.0 + at::exp(-e.alpha * g)) * (u + 1.0);
  }

  // One expert on one token [d_model].
  at::Tensor expert(const at::Tensor& x, int which, int layer) const {
    const auto map = [&](const at::Tensor& in, Weight matrix, Weight bias) {
      at::Tensor y = at::matmul(weight(matrix, layer).select(0, which), in);
      return config.experts.biases ? y + weight(bias, layer).select(0, which) : y;
    };
    return map(gated(map(x, Weight::expert_gate, Weight::expert_gate_bias),
                     map(x, Weight::expert_up, Weight::expert_up_bias)),
               Weight::expert_down, Weight::expert_down_bias);
  }

  // Token by token: the most probable expert, then the next, each run on the token alone.
  at::Tensor mixture(const at::Tensor& x, int layer, NaiveRun& run) const {
    const Experts& e = config.experts;
    const at::Tensor logits = linear(x, Weight::router, Weight::router_bias, e.router_bias, layer);
    const at::Tensor raised = at::exp(logits - logits.amax(-1, true));
    at::Tensor router = e.sigmoid ? 1.0 / (1.0 + at::exp(-logits)) : raised / raised.sum(-1, true);
    hook(Part::router, layer, router);
    run.router[static_cast<std::size_t>(layer)] = router;
    at::Tensor writes = at::zeros({x.size(0), x.size(1), e.count, config.d_model}, at::kDouble);
    for (std::int64_t b = 0; b < x.size(0); ++b) {
      for (std::int64_t t = 0; t < x.size(1); ++t) {
        std::vector<double> left;
        for (int i = 0; i < e.count; ++i) left.push_back(router[b][t][i].item<double>());
        std::vector<std::pair<int, at::Tensor>> chosen;
        at::Tensor sum = at::zeros({}, at::kDouble);
        for (int i = 0; i < e.per_token; ++i) {
          const auto best = std::max_element(left.begin(), left.end());
          const auto which = static_cast<int>(best - left.begin());
          chosen.emplace_back(which, router[b][t][which]);
          sum = sum + chosen.back().second;
          *best = -std::numeric_limits<double>::infinity();
        }
        for (const auto& [which, probability] : chosen) {
          const bool divided = e.normalise && sum.item<double>() != 0.0;
          const at::Tensor weight = divided ? probability / sum : probability;
          writes[b][t][which] = e.weigh_input ? expert(x[b][t] * weight, which, layer)
                                              : expert(x[b][t], which, layer) * weight;
        }
      }
    }
    hook(Part::expert_out, layer, writes);
    run.expert_out[static_cast<std::size_t>(layer)] = writes;
    at::Tensor sum = writes.sum(2);
    if (e.shared_width == 0) return sum;
    const at::Tensor post =
        activate(linear(x, Weight::shared_gate, Weight::shared_gate, false, layer)) *
        linear(x, Weight::shared_up, Weight::shared_up, false, layer);
    at::Tensor shared = linear(post, Weight::shared_down, Weight::shared_down, false, layer);
    if (e.shared_gated) {
      const at::Tensor open = linear(x, Weight::shared_router, Weight::shared_router, false, layer);
      shared = shared / (1.0 + at::exp(-open));
    }
    hook(Part::shared_out, layer, shared);
    return sum + shared;
  }

  at::Tensor mlp(const at::Tensor& stream, int layer, NaiveRun& run) const {
    const bool biased = config.mlp_bias;
    at::Tensor in = stream;
    hook(Part::mlp_in, layer, in);
    const at::Tensor x = config.shared_norm ? reading(in, Weight::ln1, Weight::ln1_bias, layer)
                                            : reading(in, Weight::ln2, Weight::ln2_bias, layer);
    if (is_sparse(config, layer)) return mixture(x, layer, run);
    const at::Tensor up = linear(x, Weight::up, Weight::up_bias, biased, layer);
    at::Tensor post = config.gated_mlp
                          ? activate(linear(x, Weight::gate, Weight::gate_bias, biased, layer)) * up
                          : activate(up);
    hook(Part::mlp_post, layer, post);
    run.mlp_post[static_cast<std::size_t>(layer)] = post;
    return writing(linear(post, Weight::down, Weight::down_bias, biased, layer), Weight::ln2_post,
                   layer);
  }
};

}  // namespace

NaiveRun naive_forward(const ModelConfig& config, const Model::Source& weights,
                       const at::Tensor& ids, const NaiveOptions& options) {
  const Naive naive{config, weights, options};
  NaiveRun run;
  run.mlp_post.resize(static_cast<std::size_t>(config.layers));
  run.router.resize(static_cast<std::size_t>(config.layers));
  run.expert_out.resize(static_cast<std::size_t>(config.layers));
  const at::Tensor embedding = naive.weight(Weight::embed, 0);
  at::Tensor stream = embedding.index_select(0, ids.reshape({-1}))
                          .reshape({ids.size(0), ids.size(1), config.d_model}) *
                      config.embed_scale;
  naive.hook(Part::embed, 0, stream);
  if (config.positions == Positions::learned) {
    stream =
        stream + naive.weight(Weight::pos_embed, 0).narrow(0, options.first_position, ids.size(1));
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    naive.hook(Part::resid_pre, layer, stream);
    run.resid_pre.push_back(stream);
    at::Tensor attention = naive.attention(stream, layer, run);
    naive.hook(Part::attn_out, layer, attention);
    run.attn_out.push_back(attention);
    const at::Tensor before = stream;
    stream = stream + attention;
    naive.hook(Part::resid_mid, layer, stream);
    run.resid_mid.push_back(stream);
    at::Tensor mlp = naive.mlp(config.parallel ? before : stream, layer, run);
    naive.hook(Part::mlp_out, layer, mlp);
    run.mlp_out.push_back(mlp);
    stream = stream + mlp;
    naive.hook(Part::resid_post, layer, stream);
    run.resid_post.push_back(stream);
  }
  const at::Tensor last = naive.norm(stream, Weight::final_norm, Weight::final_norm_bias, 0);
  const at::Tensor unembed = config.tied ? embedding : naive.weight(Weight::unembed, 0);
  run.logits = Naive::capped(at::matmul(last, unembed.t()), config.logit_cap);
  return run;
}

}  // namespace plumb::test
