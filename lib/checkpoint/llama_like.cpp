#include "checkpoint/llama_like.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "checkpoint/families.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

const char* stem(Weight weight) {
  switch (weight) {
    case Weight::embed: return "model.embed_tokens";
    case Weight::final_norm: return "model.norm";
    case Weight::unembed: return "lm_head";
    case Weight::ln1: return "input_layernorm";
    case Weight::ln2: return "post_attention_layernorm";
    case Weight::q:
    case Weight::q_bias: return "self_attn.q_proj";
    case Weight::k:
    case Weight::k_bias: return "self_attn.k_proj";
    case Weight::v:
    case Weight::v_bias: return "self_attn.v_proj";
    case Weight::q_norm: return "self_attn.q_norm";
    case Weight::k_norm: return "self_attn.k_norm";
    case Weight::out:
    case Weight::out_bias: return "self_attn.o_proj";
    case Weight::gate:
    case Weight::gate_bias: return "mlp.gate_proj";
    case Weight::up:
    case Weight::up_bias: return "mlp.up_proj";
    case Weight::down:
    case Weight::down_bias: return "mlp.down_proj";
    case Weight::pos_embed:
    case Weight::ln1_bias:
    case Weight::ln2_bias:
    case Weight::final_norm_bias: break;  // no such weight under RMSNorm and rotation
  }
  return "none";
}

bool is_bias(Weight weight) { return std::string_view(to_string(weight)).ends_with("_bias"); }

}  // namespace

ModelConfig read_llama_like(const Fields& fields, const LlamaDefaults& defaults) {
  refuse_foreign_fields(fields);
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  const auto count_or = [&](const char* field, int fallback) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX, fallback));
  };
  ModelConfig config;
  config.d_model = count("hidden_size");
  config.d_mlp = count("intermediate_size");
  config.layers = static_cast<int>(fields.integer("num_hidden_layers", 1, 100'000));
  config.heads = count("num_attention_heads");
  config.vocab = count("vocab_size");
  config.kv_heads =
      count_or("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : config.heads);
  if (!fields.has("head_dim") && defaults.d_head == 0) {
    if (config.d_model % config.heads != 0) {
      fields.wrong("hidden_size",
                   fmt::format("a multiple of num_attention_heads ({}), as there is no "
                               "head_dim",
                               config.heads));
    }
    config.d_head = config.d_model / config.heads;
  } else {
    config.d_head = count_or("head_dim", defaults.d_head);
  }
  config.context = count_or("max_position_embeddings", defaults.context);
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-6);
  config.activation = read_activation(fields, "hidden_act", "silu");
  config.tied = fields.flag("tie_word_embeddings", defaults.tied);
  config.rope = read_rope(fields, config.d_head, config.context, defaults.theta);
  return config;
}

Source llama_like_source(const ModelConfig&, Weight weight, int layer) {
  const char* kind = is_bias(weight) ? "bias" : "weight";
  Source source;
  source.tensor = is_per_layer(weight)
                      ? fmt::format("model.layers.{}.{}.{}", layer, stem(weight), kind)
                      : fmt::format("{}.{}", stem(weight), kind);
  return source;
}

bool llama_like_ignores(std::string_view tensor) {
  return tensor.ends_with(".rotary_emb.inv_freq");
}

Json write_llama_like(const ModelConfig& config, std::string_view architecture) {
  Json json = {
      {"architectures", {architecture}},
      {"model_type", config.family},
      {"hidden_size", config.d_model},
      {"intermediate_size", config.d_mlp},
      {"num_hidden_layers", config.layers},
      {"num_attention_heads", config.heads},
      {"num_key_value_heads", config.kv_heads},
      {"head_dim", config.d_head},
      {"vocab_size", config.vocab},
      {"max_position_embeddings", config.context},
      {"rms_norm_eps", config.norm_eps},
      {"hidden_act", activation_name(config.activation)},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
  write_rope(config.rope, json);
  return json;
}

std::vector<int> read_windows(const Fields& fields, const std::vector<bool>& sliding) {
  const std::size_t layers = sliding.size();
  const bool used = fields.flag("use_sliding_window", false) && fields.has("sliding_window");
  const int window = used ? static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX)) : 0;
  std::vector<int> windows(layers, 0);
  if (fields.has("layer_types")) {
    const std::vector<std::string> types = fields.texts("layer_types");
    if (types.size() < layers) fields.wrong("layer_types", fmt::format("a list of {}", layers));
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (types[layer] == "full_attention") continue;
      if (types[layer] != "sliding_attention") {
        fields.unsupported("layer_types",
                           "but plumb knows only full_attention and sliding_attention in it");
      }
      if (!used) {
        fields.wrong("layer_types", "without sliding_attention, as there is no sliding window");
      }
      windows[layer] = window;
    }
  } else {
    for (std::size_t layer = 0; layer < layers; ++layer)
      windows[layer] = sliding[layer] ? window : 0;
  }
  for (const int width : windows) {
    if (width > 0) return windows;
  }
  return {};
}

void write_windows(const ModelConfig& config, Json& json) {
  int width = 0;
  Json types = Json::array();
  for (const int window : config.windows) {
    if (width == 0) width = window;
    types.push_back(window > 0 ? "sliding_attention" : "full_attention");
  }
  json["use_sliding_window"] = width > 0;
  json["sliding_window"] = width > 0 ? Json(width) : Json();
  if (width > 0) json["layer_types"] = types;
}

}  // namespace plumb
