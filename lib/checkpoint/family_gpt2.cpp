// GPT-2: LayerNorm, a learned position table, q, k and v in one matrix stored as [inputs, outputs].
#include <fmt/format.h>

#include <string>

#include "checkpoint/families.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields);
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.positions = Positions::learned;
  config.gated_mlp = false;
  config.qkv_bias = config.out_bias = config.mlp_bias = true;
  config.layers = static_cast<int>(fields.integer("n_layer", 1, 100'000));
  config.heads = config.kv_heads = count("n_head");
  config.d_model = count("n_embd");
  config.vocab = count("vocab_size");
  config.context = count(fields.has("n_positions") ? "n_positions" : "n_ctx");
  if (config.d_model % config.heads != 0) {
    fields.wrong("n_embd", fmt::format("a multiple of n_head ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  if (config.d_model > INT32_MAX / 4) fields.wrong("n_embd", "smaller");
  config.d_mlp =
      static_cast<int>(fields.integer("n_inner", 1, INT32_MAX, std::int64_t{4} * config.d_model));
  config.norm_eps = fields.number("layer_norm_epsilon", 1e-30, 1, 1e-5);
  config.activation = read_activation(fields, "activation_function", "gelu_new");
  config.tied = fields.flag("tie_word_embeddings", true);
  if (!fields.flag("scale_attn_weights", true)) {
    fields.unsupported("scale_attn_weights", "but plumb always divides by sqrt(d_head)");
  }
  if (fields.flag("scale_attn_by_inverse_layer_idx", false)) {
    fields.unsupported("scale_attn_by_inverse_layer_idx", "which plumb does not handle");
  }
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto top = [](const char* name) { return Source{.tensor = name}; };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("transformer.h.{}.{}", layer, name)};
  };
  const auto matrix = [&](const char* name) {
    Source source = at(name);
    source.transposed = true;
    return source;
  };
  const std::int64_t d_model = config.d_model;
  const auto fused = [&](std::int64_t part, bool bias) {
    Source source = bias ? at("attn.c_attn.bias") : matrix("attn.c_attn.weight");
    source.first = part * d_model;
    source.outputs = 3 * d_model;
    return source;
  };
  switch (weight) {
    case Weight::embed: return top("transformer.wte.weight");
    case Weight::pos_embed: return top("transformer.wpe.weight");
    case Weight::final_norm: return top("transformer.ln_f.weight");
    case Weight::final_norm_bias: return top("transformer.ln_f.bias");
    case Weight::unembed: return top("lm_head.weight");
    case Weight::ln1: return at("ln_1.weight");
    case Weight::ln1_bias: return at("ln_1.bias");
    case Weight::ln2: return at("ln_2.weight");
    case Weight::ln2_bias: return at("ln_2.bias");
    case Weight::q: return fused(0, false);
    case Weight::k: return fused(1, false);
    case Weight::v: return fused(2, false);
    case Weight::q_bias: return fused(0, true);
    case Weight::k_bias: return fused(1, true);
    case Weight::v_bias: return fused(2, true);
    case Weight::out: return matrix("attn.c_proj.weight");
    case Weight::out_bias: return at("attn.c_proj.bias");
    case Weight::up: return matrix("mlp.c_fc.weight");
    case Weight::up_bias: return at("mlp.c_fc.bias");
    case Weight::down: return matrix("mlp.c_proj.weight");
    case Weight::down_bias: return at("mlp.c_proj.bias");
    default: break;  // no such weight in this family
  }
  return {};
}

/// Older files carry the causal mask as buffers.
bool ignores(std::string_view tensor) {
  return tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias");
}

Json write(const ModelConfig& config) {
  return {
      {"architectures", {"GPT2LMHeadModel"}},
      {"model_type", "gpt2"},
      {"n_layer", config.layers},
      {"n_head", config.heads},
      {"n_embd", config.d_model},
      {"n_inner", config.d_mlp},
      {"n_positions", config.context},
      {"n_ctx", config.context},
      {"vocab_size", config.vocab},
      {"layer_norm_epsilon", config.norm_eps},
      {"activation_function", activation_name(config.activation)},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
}

}  // namespace

const Family gpt2_family = {.name = "gpt2",
                            .prefix = "transformer.",
                            .layers = "h.",
                            .read = read,
                            .source = source,
                            .ignores = ignores,
                            .write = write};

}  // namespace plumb
