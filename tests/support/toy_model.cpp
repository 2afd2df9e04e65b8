#include "support/toy_model.h"

#include <ATen/ATen.h>

#include "core/random.h"

namespace plumb::test {

namespace {

bool is_gain(Weight weight) {
  return weight == Weight::ln1 || weight == Weight::ln2 || weight == Weight::final_norm ||
         weight == Weight::ln1_post || weight == Weight::ln2_post || weight == Weight::q_norm ||
         weight == Weight::k_norm;
}

}  // namespace

ModelConfig random_config(std::uint64_t seed) {
  Random random(seed);
  const bool llama = seed % 2 == 0;
  ModelConfig config;
  config.family = llama ? "llama" : "gpt2";
  config.layers = static_cast<int>(2 + random.below(3));
  config.kv_heads = static_cast<int>(1 + random.below(3));
  config.heads = llama ? config.kv_heads * static_cast<int>(1 + random.below(3)) : config.kv_heads;
  config.d_head = 2 * static_cast<int>(2 + random.below(3));
  config.d_model = 8 * static_cast<int>(2 + random.below(3));
  config.d_mlp = 8 * static_cast<int>(2 + random.below(4));
  config.vocab = 37;
  config.context = 64;
  config.norm = llama ? Norm::rms : Norm::layer;
  config.positions = llama ? Positions::rope : Positions::learned;
  config.rope.dims = config.d_head;
  config.activation = llama ? Activation::silu : Activation::gelu_tanh;
  config.gated_mlp = llama;
  config.qkv_bias = !llama || random.below(2) == 1;
  config.out_bias = !llama;
  config.mlp_bias = !llama;
  if (llama && random.below(2) == 1) config.qk_norm = QkNorm::head;
  config.tied = random.below(2) == 1;
  if (seed % 8 == 6) {
    config.experts = {.count = 5, .per_token = 2, .width = 12, .shared_width = 8};
    config.experts.normalise = seed % 16 == 14;
    config.experts.layers.assign(static_cast<std::size_t>(config.layers), 1);
    config.experts.layers.front() = 0;
  }
  return config;
}

std::vector<ModelConfig> unusual_configs() {
  std::vector<ModelConfig> all;
  const auto add = [&](const char* family, std::uint64_t seed, const auto& change) {
    ModelConfig config = random_config(seed);
    change(config);
    config.family = family;
    all.push_back(config);
  };
  add("gemma", 2, [](ModelConfig& c) {
    c.norm_place = NormPlace::both;
    c.windows.assign(static_cast<std::size_t>(c.layers), 4);
    c.windows.front() = 0;
    c.window_rope = {.theta = 100.0, .dims = c.d_head};
    c.embed_scale = 3.0;
    c.attention_scale = 0.7;
    c.score_cap = 2.0;
    c.logit_cap = 3.0;
  });
  add("olmo2", 4, [](ModelConfig& c) {
    c.norm_place = NormPlace::after;
    c.qk_norm = QkNorm::whole;
  });
  add("olmo", 6, [](ModelConfig& c) {
    c.norm = Norm::layer;
    c.norm_gain = false;
    c.qkv_clip = 1.0;
  });
  add("neox", 8, [](ModelConfig& c) {
    c.norm = Norm::layer;
    c.parallel = true;
    c.rope.dims = 2;
  });
  add("shared_norm", 10, [](ModelConfig& c) { c.parallel = c.shared_norm = true; });
  for (const int heads : {4, 6}) {
    add("alibi", 12, [heads](ModelConfig& c) {
      c.norm = Norm::layer;
      c.norm_bias = false;
      c.positions = Positions::alibi;
      c.heads = heads;
      c.kv_heads = heads / 2;
    });
  }
  add("gated", 14, [](ModelConfig& c) { c.gated_attention = true; });
  add("llama4", 22, [](ModelConfig& c) {
    const auto layers = static_cast<std::size_t>(c.layers);
    c.qk_norm = QkNorm::rotated;
    c.windows.assign(layers, 4);
    c.chunked = true;
    c.rope_layers.assign(layers, 1);
    c.windows.back() = c.rope_layers.back() = 0;
    c.rope.query_growth = 0.5;
    c.rope.query_span = 3;
    c.experts.normalise = c.experts.shared_gated = false;
    c.experts.sigmoid = c.experts.weigh_input = true;
  });
  add("falcon", 12, [](ModelConfig& c) {
    c.norm = Norm::layer;
    c.parallel = c.shared_norm = true;
    c.positions = Positions::alibi;
    c.alibi_scale = 0.4;
  });
  add("sink_logits", 16, [](ModelConfig& c) { c.sink_logits = true; });
  return all;
}

ModelConfig any_config(std::uint64_t index) {
  static const std::vector<ModelConfig> unusual = unusual_configs();
  const std::uint64_t drawn = static_cast<std::uint64_t>(config_kinds) - unusual.size();
  return index < drawn ? random_config(index) : unusual.at(index - drawn);
}

Model toy_model(const ModelConfig& config, std::uint64_t seed, const LoadOptions& options) {
  const auto source = [config, seed](Weight weight, int layer) -> at::Tensor {
    const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
    if (shape.empty()) return {};
    Random random = Random(seed).fork(static_cast<std::uint64_t>(weight) * 1000 +
                                      static_cast<std::uint64_t>(layer));
    at::Tensor value = at::empty(shape, at::kDouble);
    auto* data = value.data_ptr<double>();
    for (std::int64_t i = 0; i < value.numel(); ++i) {
      data[i] = is_gain(weight) ? 1.0 + 0.2 * random.normal() : 0.5 * random.normal();
    }
    return value;
  };
  return Model(config, source, "toy", options);
}

Tokens toy_tokens(const ModelConfig& config, std::int64_t batch, std::int64_t length,
                  std::uint64_t seed) {
  Random random(seed);
  std::vector<std::vector<std::int64_t>> sequences(static_cast<std::size_t>(batch));
  for (auto& sequence : sequences) {
    for (std::int64_t t = 0; t < length; ++t) sequence.push_back(random.below(config.vocab));
  }
  return make_tokens(sequences);
}

}  // namespace plumb::test
