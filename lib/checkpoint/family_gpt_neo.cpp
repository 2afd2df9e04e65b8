// GPT-Neo: GPT-2 with windows in some layers, no scale on the scores and no biases on q, k and v.
#include <fmt/format.h>

#include "checkpoint/families.h"

namespace plumb {
namespace {

constexpr const char* expected_types = "a list such as [[[\"global\", \"local\"], 6]]";

/// `attention_types` names runs of layer types, each with how often it is repeated.
std::vector<int> read_windows(const Fields& fields, int layers) {
  const auto window = static_cast<int>(fields.integer("window_size", 1, INT32_MAX, 256));
  const Json usual = Json::array({Json::array({Json::array({"global", "local"}), 12})});
  const Json& runs = fields.has("attention_types") ? fields.raw("attention_types") : usual;
  std::vector<int> windows;
  if (!runs.is_array()) fields.wrong("attention_types", expected_types);
  for (const Json& run : runs) {
    if (!run.is_array() || run.size() != 2 || !run[0].is_array() || !run[1].is_number_integer()) {
      fields.wrong("attention_types", expected_types);
    }
    for (std::int64_t i = 0; i < run[1].get<std::int64_t>(); ++i) {
      for (const Json& type : run[0]) {
        if (type != "global" && type != "local") {
          fields.unsupported("attention_types", "but plumb knows global and local in it");
        }
        windows.push_back(type == "local" ? window : 0);
      }
      if (run[0].empty() || windows.size() > static_cast<std::size_t>(layers)) break;
    }
  }
  if (windows.size() != static_cast<std::size_t>(layers)) {
    fields.wrong("attention_types", fmt::format("types for num_layers ({}) layers", layers));
  }
  return windows;
}

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields);
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.positions = Positions::learned;
  config.gated_mlp = false;
  config.out_bias = config.mlp_bias = true;
  config.attention_scale = 1.0;
  config.layers = static_cast<int>(fields.integer("num_layers", 1, 100'000));
  config.heads = config.kv_heads = count("num_heads");
  config.d_model = count("hidden_size");
  config.vocab = count("vocab_size");
  config.context = count("max_position_embeddings");
  if (config.d_model % config.heads != 0) {
    fields.wrong("hidden_size", fmt::format("a multiple of num_heads ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  if (config.d_model > INT32_MAX / 4) fields.wrong("hidden_size", "smaller");
  config.d_mlp = static_cast<int>(
      fields.integer("intermediate_size", 1, INT32_MAX, std::int64_t{4} * config.d_model));
  config.norm_eps = fields.number("layer_norm_epsilon", 1e-30, 1, 1e-5);
  config.activation = read_activation(fields, "activation_function", "gelu_new");
  config.tied = fields.flag("tie_word_embeddings", true);
  config.windows = read_windows(fields, config.layers);
  return config;
}

Source source(const ModelConfig&, Weight weight, int layer) {
  const auto top = [](const char* name) { return Source{.tensor = name}; };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("transformer.h.{}.{}", layer, name)};
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
    case Weight::q: return at("attn.attention.q_proj.weight");
    case Weight::k: return at("attn.attention.k_proj.weight");
    case Weight::v: return at("attn.attention.v_proj.weight");
    case Weight::out: return at("attn.attention.out_proj.weight");
    case Weight::out_bias: return at("attn.attention.out_proj.bias");
    case Weight::up: return at("mlp.c_fc.weight");
    case Weight::up_bias: return at("mlp.c_fc.bias");
    case Weight::down: return at("mlp.c_proj.weight");
    case Weight::down_bias: return at("mlp.c_proj.bias");
    default: break;  // no such weight in this family
  }
  return {};
}

/// Older files carry the causal mask as buffers.
bool ignores(std::string_view tensor) {
  return tensor.ends_with(".attn.attention.bias") ||
         tensor.ends_with(".attn.attention.masked_bias");
}

Json write(const ModelConfig& config) {
  int window = 256;
  Json runs = Json::array();
  for (int layer = 0; layer < config.layers; ++layer) {
    const int width = config.windows.empty() ? 0 : config.windows[static_cast<std::size_t>(layer)];
    if (width > 0) window = width;
    runs.push_back(Json::array({Json::array({width > 0 ? "local" : "global"}), 1}));
  }
  return {
      {"architectures", {"GPTNeoForCausalLM"}},
      {"model_type", "gpt_neo"},
      {"num_layers", config.layers},
      {"num_heads", config.heads},
      {"hidden_size", config.d_model},
      {"intermediate_size", config.d_mlp},
      {"max_position_embeddings", config.context},
      {"vocab_size", config.vocab},
      {"attention_types", runs},
      {"window_size", window},
      {"layer_norm_epsilon", config.norm_eps},
      {"activation_function", activation_name(config.activation)},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
}

}  // namespace

const Family gpt_neo_family = {.name = "gpt_neo",
                               .prefix = "transformer.",
                               .layers = "h.",
                               .read = read,
                               .source = source,
                               .ignores = ignores,
                               .write = write};

}  // namespace plumb
