// Falcon: attention and MLP in parallel or in turn, one key head, a few or as many as query heads,
// rotation or ALiBi, and the queries of a key head beside its k and v in one matrix.
#include <fmt/format.h>

#include <cmath>

#include "checkpoint/families.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

/// The attention's and the MLP's norms, one for both or one after the other.
void read_block(const Fields& fields, bool fresh, ModelConfig& config) {
  config.parallel = fields.flag("parallel_attn", true);
  if (fresh && !config.parallel) {
    fields.unsupported("parallel_attn", "but with new_decoder_architecture plumb knows only true");
  }
  const std::int64_t norms = fields.integer("num_ln_in_parallel_attn", 1, 2, fresh ? 2 : 1);
  if (norms == 2 && !fresh && config.parallel) {
    fields.unsupported("num_ln_in_parallel_attn",
                       "but without new_decoder_architecture plumb knows only 1");
  }
  config.shared_norm = config.parallel && norms == 1;
}

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields, {"alibi", "parallel_attn"});
  if (fields.flag("apply_residual_connection_post_layernorm", false)) {
    fields.unsupported("apply_residual_connection_post_layernorm", "but plumb knows only false");
  }
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.gated_mlp = false;
  config.d_model = count("hidden_size");
  if (config.d_model > INT32_MAX / 4) fields.wrong("hidden_size", "smaller");
  config.d_mlp = static_cast<int>(
      fields.integer("ffn_hidden_size", 1, INT32_MAX, std::int64_t{4} * config.d_model));
  config.layers = static_cast<int>(fields.integer("num_hidden_layers", 1, 100'000));
  config.heads = count("num_attention_heads");
  config.vocab = count("vocab_size");
  config.context = static_cast<int>(fields.integer("max_position_embeddings", 1, INT32_MAX, 2048));
  if (config.d_model % config.heads != 0) {
    fields.wrong("hidden_size",
                 fmt::format("a multiple of num_attention_heads ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  const bool fresh = fields.flag("new_decoder_architecture", false);
  config.kv_heads =
      fresh ? static_cast<int>(fields.integer("num_kv_heads", 1, config.heads, config.heads))
      : fields.flag("multi_query", true) ? 1
                                         : config.heads;
  read_block(fields, fresh, config);
  config.norm_eps = fields.number("layer_norm_epsilon", 1e-30, 1, 1e-5);
  config.activation = read_activation(fields, "activation", "gelu");
  config.tied = fields.flag("tie_word_embeddings", true);
  config.qkv_bias = config.out_bias = config.mlp_bias = fields.flag("bias", false);
  if (fields.flag("alibi", false)) {
    config.positions = Positions::alibi;
    // The bias is added before scores are divided by the root of d_head.
    config.alibi_scale = 1.0 / std::sqrt(static_cast<double>(config.d_head));
  } else {
    config.rope = read_rope(fields, config.d_head, config.context, {});
  }
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto top = [](const char* name) {
    return Source{.tensor = fmt::format("transformer.{}", name)};
  };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("transformer.h.{}.{}", layer, name)};
  };
  const std::int64_t d_head = config.d_head;
  const std::int64_t queries = config.heads / config.kv_heads;  // of a key head
  const auto fused = [&](std::int64_t heads_before, std::int64_t heads, const char* kind) {
    Source source = at("self_attention.query_key_value.");
    source.tensor += kind;
    source.first = heads_before * d_head;
    source.group = heads * d_head;
    source.stride = (queries + 2) * d_head;
    source.outputs = config.kv_heads * source.stride;
    return source;
  };
  const bool two_norms = config.parallel && !config.shared_norm;
  switch (weight) {
    case Weight::embed: return top("word_embeddings.weight");
    case Weight::final_norm: return top("ln_f.weight");
    case Weight::final_norm_bias: return top("ln_f.bias");
    case Weight::unembed: return {.tensor = "lm_head.weight"};
    case Weight::ln1: return at(two_norms ? "ln_attn.weight" : "input_layernorm.weight");
    case Weight::ln1_bias: return at(two_norms ? "ln_attn.bias" : "input_layernorm.bias");
    case Weight::ln2: return at(two_norms ? "ln_mlp.weight" : "post_attention_layernorm.weight");
    case Weight::ln2_bias: return at(two_norms ? "ln_mlp.bias" : "post_attention_layernorm.bias");
    case Weight::q: return fused(0, queries, "weight");
    case Weight::k: return fused(queries, 1, "weight");
    case Weight::v: return fused(queries + 1, 1, "weight");
    case Weight::q_bias: return fused(0, queries, "bias");
    case Weight::k_bias: return fused(queries, 1, "bias");
    case Weight::v_bias: return fused(queries + 1, 1, "bias");
    case Weight::out: return at("self_attention.dense.weight");
    case Weight::out_bias: return at("self_attention.dense.bias");
    case Weight::up: return at("mlp.dense_h_to_4h.weight");
    case Weight::up_bias: return at("mlp.dense_h_to_4h.bias");
    case Weight::down: return at("mlp.dense_4h_to_h.weight");
    case Weight::down_bias: return at("mlp.dense_4h_to_h.bias");
    default: break;  // no such weight in this family
  }
  return {};
}

bool ignores(std::string_view tensor) { return tensor.ends_with(".rotary_emb.inv_freq"); }

Json write(const ModelConfig& config) {
  // Only the new architecture knows some key heads, or a norm for each.
  const bool two_norms = config.parallel && !config.shared_norm;
  const bool some = config.kv_heads != 1 && config.kv_heads != config.heads;
  const bool fresh = two_norms || some;
  Json json = {
      {"architectures", {"FalconForCausalLM"}},
      {"model_type", "falcon"},
      {"hidden_size", config.d_model},
      {"ffn_hidden_size", config.d_mlp},
      {"num_hidden_layers", config.layers},
      {"num_attention_heads", config.heads},
      {"num_kv_heads", config.kv_heads},
      {"new_decoder_architecture", fresh},
      {"multi_query", config.kv_heads == 1 && config.heads != 1},
      {"parallel_attn", config.parallel},
      {"num_ln_in_parallel_attn", fresh ? Json(two_norms ? 2 : 1) : Json()},
      {"bias", config.qkv_bias},
      {"alibi", config.positions == Positions::alibi},
      {"vocab_size", config.vocab},
      {"max_position_embeddings", config.context},
      {"layer_norm_epsilon", config.norm_eps},
      {"activation", activation_name(config.activation)},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
  if (config.positions == Positions::rope) write_rope(config.rope, json);
  return json;
}

}  // namespace

const Family falcon_family = {.name = "falcon",
                              .prefix = "transformer.",
                              .layers = "h.",
                              .read = read,
                              .source = source,
                              .ignores = ignores,
                              .write = write};

}  // namespace plumb
