#include "support/hash_weights.h"

#include <ATen/ATen.h>

#include <stdexcept>
#include <vector>

namespace plumb::test {
namespace {

std::uint64_t fnv1a(const std::string& name) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash;
}

double hashed(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  z ^= z >> 31U;
  return static_cast<double>(z >> 44U) / 1048576.0 - 0.5;
}

enum class Kind { matrix, bias, gain };

at::Tensor tensor(const std::string& name, const std::vector<std::int64_t>& shape, Kind kind) {
  at::Tensor values = at::empty(shape, at::kDouble);
  auto* data = values.data_ptr<double>();
  const std::uint64_t seed = fnv1a(name);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double u = hashed(seed, static_cast<std::uint64_t>(i));
    data[i] = kind == Kind::matrix ? 0.5 * u : kind == Kind::bias ? 0.125 * u : 1.0 + 0.25 * u;
  }
  return values;
}

at::Tensor gpt2_weight(Weight weight, int layer) {
  const std::int64_t d = 64;
  const std::string block = "transformer.h." + std::to_string(layer) + ".";
  const auto matrix = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    return tensor(name + ".weight", {in, out}, Kind::matrix).t();
  };
  const auto part = [&](std::int64_t index) {
    return matrix(block + "attn.c_attn", d, 3 * d).narrow(0, index * d, d).contiguous();
  };
  const auto part_bias = [&](std::int64_t index) {
    return tensor(block + "attn.c_attn.bias", {3 * d}, Kind::bias).narrow(0, index * d, d);
  };
  switch (weight) {
    case Weight::embed: return tensor("transformer.wte.weight", {97, d}, Kind::matrix);
    case Weight::pos_embed: return tensor("transformer.wpe.weight", {32, d}, Kind::matrix);
    case Weight::ln1: return tensor(block + "ln_1.weight", {d}, Kind::gain);
    case Weight::ln1_bias: return tensor(block + "ln_1.bias", {d}, Kind::bias);
    case Weight::q: return part(0);
    case Weight::q_bias: return part_bias(0);
    case Weight::k: return part(1);
    case Weight::k_bias: return part_bias(1);
    case Weight::v: return part(2);
    case Weight::v_bias: return part_bias(2);
    case Weight::out: return matrix(block + "attn.c_proj", d, d);
    case Weight::out_bias: return tensor(block + "attn.c_proj.bias", {d}, Kind::bias);
    case Weight::ln2: return tensor(block + "ln_2.weight", {d}, Kind::gain);
    case Weight::ln2_bias: return tensor(block + "ln_2.bias", {d}, Kind::bias);
    case Weight::up: return matrix(block + "mlp.c_fc", d, 4 * d);
    case Weight::up_bias: return tensor(block + "mlp.c_fc.bias", {4 * d}, Kind::bias);
    case Weight::down: return matrix(block + "mlp.c_proj", 4 * d, d);
    case Weight::down_bias: return tensor(block + "mlp.c_proj.bias", {d}, Kind::bias);
    case Weight::final_norm: return tensor("transformer.ln_f.weight", {d}, Kind::gain);
    case Weight::final_norm_bias: return tensor("transformer.ln_f.bias", {d}, Kind::bias);
    default: return {};
  }
}

at::Tensor llama_weight(Weight weight, int layer) {
  const std::int64_t d = 64;
  const std::string block = "model.layers." + std::to_string(layer) + ".";
  const auto matrix = [](const std::string& name, std::int64_t out, std::int64_t in) {
    return tensor(name + ".weight", {out, in}, Kind::matrix);
  };
  switch (weight) {
    case Weight::embed: return matrix("model.embed_tokens", 97, d);
    case Weight::unembed: return matrix("lm_head", 97, d);
    case Weight::ln1: return tensor(block + "input_layernorm.weight", {d}, Kind::gain);
    case Weight::ln2: return tensor(block + "post_attention_layernorm.weight", {d}, Kind::gain);
    case Weight::q: return matrix(block + "self_attn.q_proj", d, d);
    case Weight::k: return matrix(block + "self_attn.k_proj", d / 2, d);
    case Weight::v: return matrix(block + "self_attn.v_proj", d / 2, d);
    case Weight::out: return matrix(block + "self_attn.o_proj", d, d);
    case Weight::gate: return matrix(block + "mlp.gate_proj", 2 * d, d);
    case Weight::up: return matrix(block + "mlp.up_proj", 2 * d, d);
    case Weight::down: return matrix(block + "mlp.down_proj", d, 2 * d);
    case Weight::final_norm: return tensor("model.norm.weight", {d}, Kind::gain);
    default: return {};
  }
}

}  // namespace

Model hash_model(const std::string& kind) {
  ModelConfig config;
  config.family = kind;
  config.layers = 3;
  config.heads = 4;
  config.d_model = 64;
  config.d_head = 16;
  config.vocab = 97;
  config.context = 32;
  config.norm_eps = 1e-5;
  if (kind == "gpt2") {
    config.kv_heads = 4;
    config.d_mlp = 256;
    config.norm = Norm::layer;
    config.positions = Positions::learned;
    config.activation = Activation::gelu_tanh;
    config.gated_mlp = false;
    config.qkv_bias = config.out_bias = config.mlp_bias = true;
    config.tied = true;
    return Model(config, gpt2_weight, "hashed gpt2", {.dtype = at::kDouble});
  }
  if (kind != "llama") throw std::invalid_argument(kind);
  config.kv_heads = 2;
  config.d_mlp = 128;
  config.rope = {.theta = 10000.0, .dims = 16};
  config.tied = false;
  return Model(config, llama_weight, "hashed llama", {.dtype = at::kDouble});
}

Pairs hash_pairs() {
  std::vector<PairIds> list;
  for (std::int64_t b = 0; b < 4; ++b) {
    PairIds pair{.right = 5 + b, .wrong = 60 + b};
    for (std::int64_t t = 0; t < 6; ++t) pair.clean.push_back((b * 31 + t * 17) % 97);
    pair.corrupt = pair.clean;
    pair.corrupt[2] = (pair.corrupt[2] + 40) % 97;
    list.push_back(pair);
  }
  return make_pairs(list);
}

}  // namespace plumb::test
