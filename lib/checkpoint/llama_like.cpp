#include "checkpoint/llama_like.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "checkpoint/families.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

const char* norm_stem(Weight weight, NormPlace place) {
  switch (weight) {
    case Weight::ln1: return "input_layernorm";
    case Weight::ln1_post: return "post_attention_layernorm";
    case Weight::ln2_post: return "post_feedforward_layernorm";
    default: break;
  }
  return place == NormPlace::before ? "post_attention_layernorm" : "pre_feedforward_layernorm";
}

const char* stem(Weight weight) {
  switch (weight) {
    case Weight::embed: return "model.embed_tokens";
    case Weight::final_norm: return "model.norm";
    case Weight::unembed: return "lm_head";
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
    default: break;  // no such weight in these families; experts: llama_moe.h
  }
  return "none";
}

std::vector<int> windows_of(const Fields& fields, const std::vector<bool>& sliding, int window) {
  const std::size_t layers = sliding.size();
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
      if (window == 0) {
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

bool is_bias(Weight weight) { return std::string_view(to_string(weight)).ends_with("_bias"); }

}  // namespace

ModelConfig read_llama_like(const Fields& fields, const LlamaDefaults& defaults) {
  refuse_foreign_fields(fields, defaults.reads);
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
  config.activation = read_activation(fields, defaults.activation_field, defaults.activation);
  config.tied = fields.flag("tie_word_embeddings", defaults.tied);
  if (!defaults.rope_by_layer) {
    config.rope = read_rope(fields, config.d_head, config.context,
                            {.theta = defaults.theta, .partial = defaults.partial_rope});
  }
  return config;
}

Source llama_like_source(const ModelConfig& config, Weight weight, int layer) {
  const bool norm = weight == Weight::ln1 || weight == Weight::ln2 || weight == Weight::ln1_post ||
                    weight == Weight::ln2_post;
  const char* name = norm ? norm_stem(weight, config.norm_place) : stem(weight);
  const char* kind = is_bias(weight) ? "bias" : "weight";
  Source source;
  source.tensor = is_per_layer(weight) ? fmt::format("model.layers.{}.{}.{}", layer, name, kind)
                                       : fmt::format("{}.{}", name, kind);
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
  const bool used = fields.flag("use_sliding_window", false) && fields.has("sliding_window");
  return windows_of(fields, sliding,
                    used ? static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX)) : 0);
}

std::vector<int> read_layer_windows(const Fields& fields, const std::vector<bool>& sliding,
                                    int fallback) {
  // null means no window, whereas a file without the field has the usual one.
  const bool absent = !fields.json().contains("sliding_window");
  const int window =
      absent || fields.has("sliding_window")
          ? static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX, fallback))
          : 0;
  return windows_of(fields, sliding, window);
}

void write_windows(const ModelConfig& config, Json& json) {
  write_layer_windows(config, json);
  const bool used = json["sliding_window"] != nullptr;
  json["use_sliding_window"] = used;
  if (!used) json.erase("layer_types");
}

void write_layer_windows(const ModelConfig& config, Json& json) {
  int width = 0;
  Json types = Json::array();
  for (int layer = 0; layer < config.layers; ++layer) {
    const int window = config.windows.empty() ? 0 : config.windows[static_cast<std::size_t>(layer)];
    if (width == 0) width = window;
    types.push_back(window > 0 ? "sliding_attention" : "full_attention");
  }
  json["sliding_window"] = width > 0 ? Json(width) : Json();
  json["layer_types"] = types;
}

}  // namespace plumb
