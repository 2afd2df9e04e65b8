#include "support/toy_model.h"

#include <ATen/ATen.h>

#include "core/random.h"

namespace plumb::test {

namespace {

std::vector<std::int64_t> shape_of(const ModelConfig& c, Weight weight) {
  const std::int64_t queries = std::int64_t{c.heads} * c.d_head;
  const std::int64_t keys = std::int64_t{c.kv_heads} * c.d_head;
  switch (weight) {
    case Weight::embed:
    case Weight::unembed: return {c.vocab, c.d_model};
    case Weight::pos_embed: return {c.context, c.d_model};
    case Weight::q: return {queries, c.d_model};
    case Weight::k:
    case Weight::v: return {keys, c.d_model};
    case Weight::q_bias: return {queries};
    case Weight::k_bias:
    case Weight::v_bias: return {keys};
    case Weight::q_norm:
    case Weight::k_norm: return {c.d_head};
    case Weight::out: return {c.d_model, queries};
    case Weight::gate:
    case Weight::up: return {c.d_mlp, c.d_model};
    case Weight::gate_bias:
    case Weight::up_bias: return {c.d_mlp};
    case Weight::down: return {c.d_model, c.d_mlp};
    default: return {c.d_model};
  }
}

bool exists(const ModelConfig& c, Weight weight) {
  switch (weight) {
    case Weight::pos_embed: return c.positions == Positions::learned;
    case Weight::q_norm:
    case Weight::k_norm: return c.qk_norm;
    case Weight::q_bias:
    case Weight::k_bias:
    case Weight::v_bias: return c.qkv_bias;
    case Weight::out_bias: return c.out_bias;
    case Weight::gate: return c.gated_mlp;
    case Weight::gate_bias: return c.gated_mlp && c.mlp_bias;
    case Weight::up_bias:
    case Weight::down_bias: return c.mlp_bias;
    case Weight::ln1_bias:
    case Weight::ln2_bias:
    case Weight::final_norm_bias: return c.norm == Norm::layer;
    case Weight::unembed: return !c.tied;
    default: return true;
  }
}

bool is_gain(Weight weight) {
  return weight == Weight::ln1 || weight == Weight::ln2 || weight == Weight::final_norm ||
         weight == Weight::q_norm || weight == Weight::k_norm;
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
  config.qk_norm = llama && random.below(2) == 1;
  config.tied = random.below(2) == 1;
  return config;
}

Model toy_model(const ModelConfig& config, std::uint64_t seed, const LoadOptions& options) {
  const auto source = [config, seed](Weight weight, int layer) -> at::Tensor {
    if (!exists(config, weight)) return {};
    Random random = Random(seed).fork(static_cast<std::uint64_t>(weight) * 1000 +
                                      static_cast<std::uint64_t>(layer));
    at::Tensor value = at::empty(shape_of(config, weight), at::kDouble);
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
