// GPT-NeoX, Pythia: attention and MLP in parallel, LayerNorm, rotation of some channels (of none:
// no position encoding), and q, k and v of each head side by side in one matrix.
#include <fmt/format.h>

#include "checkpoint/families.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields, {"use_parallel_residual", "rotary_pct"});
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.gated_mlp = false;
  config.mlp_bias = true;
  config.d_model = count("hidden_size");
  config.d_mlp = count("intermediate_size");
  config.layers = static_cast<int>(fields.integer("num_hidden_layers", 1, 100'000));
  config.heads = config.kv_heads = count("num_attention_heads");
  config.vocab = count("vocab_size");
  config.context = static_cast<int>(fields.integer("max_position_embeddings", 1, INT32_MAX, 2048));
  if (config.d_model % config.heads != 0) {
    fields.wrong("hidden_size",
                 fmt::format("a multiple of num_attention_heads ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  config.norm_eps = fields.number("layer_norm_eps", 1e-30, 1, 1e-5);
  config.activation = read_activation(fields, "hidden_act", "gelu");
  config.tied = fields.flag("tie_word_embeddings", false);
  config.parallel = fields.flag("use_parallel_residual", true);
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", true);
  config.rope = read_rope(fields, config.d_head, config.context,
                          {.partial = true,
                           .share = 0.25,
                           .theta_field = "rotary_emb_base",
                           .share_field = "rotary_pct"});
  if (config.rope.dims == 0) {
    config.positions = Positions::none;
    config.rope = {};
  }
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto top = [](const char* name) { return Source{.tensor = name}; };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("gpt_neox.layers.{}.{}", layer, name)};
  };
  const std::int64_t d_head = config.d_head;
  const auto fused = [&](std::int64_t part, bool bias) {
    Source source =
        at(bias ? "attention.query_key_value.bias" : "attention.query_key_value.weight");
    source.outputs = std::int64_t{3} * config.heads * d_head;
    source.first = part * d_head;
    source.group = d_head;
    source.stride = 3 * d_head;
    return source;
  };
  switch (weight) {
    case Weight::embed: return top("gpt_neox.embed_in.weight");
    case Weight::final_norm: return top("gpt_neox.final_layer_norm.weight");
    case Weight::final_norm_bias: return top("gpt_neox.final_layer_norm.bias");
    case Weight::unembed: return top("embed_out.weight");
    case Weight::ln1: return at("input_layernorm.weight");
    case Weight::ln1_bias: return at("input_layernorm.bias");
    case Weight::ln2: return at("post_attention_layernorm.weight");
    case Weight::ln2_bias: return at("post_attention_layernorm.bias");
    case Weight::q: return fused(0, false);
    case Weight::k: return fused(1, false);
    case Weight::v: return fused(2, false);
    case Weight::q_bias: return fused(0, true);
    case Weight::k_bias: return fused(1, true);
    case Weight::v_bias: return fused(2, true);
    case Weight::out: return at("attention.dense.weight");
    case Weight::out_bias: return at("attention.dense.bias");
    case Weight::up: return at("mlp.dense_h_to_4h.weight");
    case Weight::up_bias: return at("mlp.dense_h_to_4h.bias");
    case Weight::down: return at("mlp.dense_4h_to_h.weight");
    case Weight::down_bias: return at("mlp.dense_4h_to_h.bias");
    default: break;  // no such weight in this family
  }
  return {};
}

/// Older files carry the causal mask and the frequencies as buffers.
bool ignores(std::string_view tensor) {
  return tensor.ends_with(".attention.bias") || tensor.ends_with(".attention.masked_bias") ||
         tensor.ends_with(".rotary_emb.inv_freq");
}

Json write(const ModelConfig& config) {
  Json json = {
      {"architectures", {"GPTNeoXForCausalLM"}},
      {"model_type", "gpt_neox"},
      {"hidden_size", config.d_model},
      {"intermediate_size", config.d_mlp},
      {"num_hidden_layers", config.layers},
      {"num_attention_heads", config.heads},
      {"vocab_size", config.vocab},
      {"max_position_embeddings", config.context},
      {"layer_norm_eps", config.norm_eps},
      {"hidden_act", activation_name(config.activation)},
      {"tie_word_embeddings", config.tied},
      {"use_parallel_residual", config.parallel},
      {"attention_bias", config.qkv_bias},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
  write_rope(config.rope, json);
  json["rotary_emb_base"] = json["rope_theta"];
  json["rotary_pct"] = static_cast<double>(config.rope.dims) / config.d_head;
  json.erase("rope_theta");
  return json;
}

}  // namespace

const Family gpt_neox_family = {.name = "gpt_neox",
                                .prefix = "gpt_neox.",
                                .layers = "layers.",
                                .read = read,
                                .source = source,
                                .ignores = ignores,
                                .write = write};

}  // namespace plumb
