// OPT: LayerNorm, ReLU, and a table of learned positions that begins with two rows for padding.
#include <fmt/format.h>

#include "checkpoint/families.h"

namespace plumb {
namespace {

constexpr int padding_rows = 2;

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields);
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.positions = Positions::learned;
  config.gated_mlp = false;
  config.layers = static_cast<int>(fields.integer("num_hidden_layers", 1, 100'000));
  config.heads = config.kv_heads = count("num_attention_heads");
  config.d_model = count("hidden_size");
  config.d_mlp = count("ffn_dim");
  config.vocab = count("vocab_size");
  config.context =
      static_cast<int>(fields.integer("max_position_embeddings", 1, INT32_MAX - padding_rows));
  if (config.d_model % config.heads != 0) {
    fields.wrong("hidden_size",
                 fmt::format("a multiple of num_attention_heads ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  config.activation = read_activation(fields, "activation_function", "relu");
  config.tied = fields.flag("tie_word_embeddings", true);
  config.qkv_bias = config.out_bias = config.mlp_bias = fields.flag("enable_bias", true);
  config.norm_gain = config.norm_bias = fields.flag("layer_norm_elementwise_affine", true);
  if (fields.integer("word_embed_proj_dim", 1, INT32_MAX, config.d_model) != config.d_model) {
    fields.unsupported("word_embed_proj_dim",
                       fmt::format("but plumb handles only hidden_size ({}) there, embeddings that "
                                   "are not projected",
                                   config.d_model));
  }
  if (!fields.flag("do_layer_norm_before", true)) {
    fields.unsupported("do_layer_norm_before", "but plumb handles only true");
  }
  if (fields.flag("_remove_final_layer_norm", false)) {
    fields.unsupported("_remove_final_layer_norm", "but plumb handles only false");
  }
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto top = [](const char* name) { return Source{.tensor = name}; };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("model.decoder.layers.{}.{}", layer, name)};
  };
  switch (weight) {
    case Weight::embed: return top("model.decoder.embed_tokens.weight");
    case Weight::pos_embed: {
      Source source = top("model.decoder.embed_positions.weight");
      source.first = padding_rows;
      source.outputs = config.context + padding_rows;
      return source;
    }
    case Weight::final_norm: return top("model.decoder.final_layer_norm.weight");
    case Weight::final_norm_bias: return top("model.decoder.final_layer_norm.bias");
    case Weight::unembed: return top("lm_head.weight");
    case Weight::ln1: return at("self_attn_layer_norm.weight");
    case Weight::ln1_bias: return at("self_attn_layer_norm.bias");
    case Weight::ln2: return at("final_layer_norm.weight");
    case Weight::ln2_bias: return at("final_layer_norm.bias");
    case Weight::q: return at("self_attn.q_proj.weight");
    case Weight::q_bias: return at("self_attn.q_proj.bias");
    case Weight::k: return at("self_attn.k_proj.weight");
    case Weight::k_bias: return at("self_attn.k_proj.bias");
    case Weight::v: return at("self_attn.v_proj.weight");
    case Weight::v_bias: return at("self_attn.v_proj.bias");
    case Weight::out: return at("self_attn.out_proj.weight");
    case Weight::out_bias: return at("self_attn.out_proj.bias");
    case Weight::up: return at("fc1.weight");
    case Weight::up_bias: return at("fc1.bias");
    case Weight::down: return at("fc2.weight");
    case Weight::down_bias: return at("fc2.bias");
    default: break;  // no such weight in this family
  }
  return {};
}

bool ignores(std::string_view) { return false; }

Json write(const ModelConfig& config) {
  return {
      {"architectures", {"OPTForCausalLM"}},
      {"model_type", "opt"},
      {"num_hidden_layers", config.layers},
      {"num_attention_heads", config.heads},
      {"hidden_size", config.d_model},
      {"word_embed_proj_dim", config.d_model},
      {"ffn_dim", config.d_mlp},
      {"max_position_embeddings", config.context},
      {"vocab_size", config.vocab},
      {"activation_function", activation_name(config.activation)},
      {"do_layer_norm_before", true},
      {"enable_bias", config.qkv_bias},
      {"layer_norm_elementwise_affine", config.norm_gain},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
}

}  // namespace

const Family opt_family = {.name = "opt",
                           .prefix = "model.",
                           .layers = "decoder.layers.",
                           .read = read,
                           .source = source,
                           .ignores = ignores,
                           .write = write};

}  // namespace plumb
