// Llama 4 (text): rotation in pairs of neighbouring channels, in most layers only, and there over
// chunks of the context; queries that grow with the position in the others; experts weighed by a
// sigmoid on what they read, beside one that every token visits.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

std::vector<std::uint8_t> read_rope_layers(const Fields& fields, int layers) {
  std::vector<std::uint8_t> rotates;
  if (fields.has("no_rope_layers") && !fields.raw("no_rope_layers").empty()) {
    // A 1 says that the layer does rotate.
    for (const std::int64_t one : fields.integers("no_rope_layers", 0, 1)) {
      rotates.push_back(static_cast<std::uint8_t>(one));
    }
    if (rotates.size() < static_cast<std::size_t>(layers)) {
      fields.wrong("no_rope_layers", fmt::format("a list of {}", layers));
    }
    rotates.resize(static_cast<std::size_t>(layers));
  } else {
    const std::int64_t interval = fields.integer("no_rope_layer_interval", 1, INT32_MAX, 4);
    for (int layer = 0; layer < layers; ++layer) rotates.push_back((layer + 1) % interval != 0);
  }
  if (std::count(rotates.begin(), rotates.end(), 0) == 0) rotates.clear();
  return rotates;
}

/// The layers that rotate see a chunk, unless `layer_types` says otherwise.
void read_chunks(const Fields& fields, ModelConfig& config) {
  const bool none =
      fields.json().contains("attention_chunk_size") && !fields.has("attention_chunk_size");
  const int width =
      none ? 0 : static_cast<int>(fields.integer("attention_chunk_size", 1, INT32_MAX, 8192));
  const auto layers = static_cast<std::size_t>(config.layers);
  std::vector<std::string> types;
  if (fields.has("layer_types")) {
    types = fields.texts("layer_types");
    if (types.size() < layers) fields.wrong("layer_types", fmt::format("a list of {}", layers));
  }
  std::vector<int> windows(layers, 0);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const bool rotates = config.rope_layers.empty() || config.rope_layers[layer] != 0;
    const std::string usual = rotates ? "chunked_attention" : "full_attention";
    const std::string& type = types.empty() ? usual : types[layer];
    if (type == "full_attention") continue;
    if (type != "chunked_attention") {
      fields.unsupported("layer_types",
                         "but plumb knows only full_attention and chunked_attention in it");
    }
    windows[layer] = width;
  }
  if (std::count(windows.begin(), windows.end(), 0) == config.layers) return;
  config.windows = windows;
  config.chunked = true;
}

std::vector<std::uint8_t> read_moe_layers(const Fields& fields, int layers) {
  std::vector<std::uint8_t> sparse(static_cast<std::size_t>(layers), 0);
  if (fields.has("moe_layers")) {
    for (const std::int64_t layer : fields.integers("moe_layers", 0, INT32_MAX)) {
      if (layer < layers) sparse[static_cast<std::size_t>(layer)] = 1;
    }
  } else {
    const std::int64_t step = fields.integer("interleave_moe_layer_step", 1, INT32_MAX, 1);
    for (int layer = 0; layer < layers; ++layer) {
      sparse[static_cast<std::size_t>(layer)] = (layer + 1) % step == 0;
    }
  }
  if (std::count(sparse.begin(), sparse.end(), 0) == 0) sparse.clear();
  return sparse;
}

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(
      fields, {.kv_heads = 8,
               .d_head = 128,
               .context = 131072,
               .theta = 500'000,
               .reads = {"num_local_experts", "attention_chunk_size", "use_qk_norm"}});
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  if (fields.flag("use_qk_norm", true)) config.qk_norm = QkNorm::rotated;
  config.rope_layers = read_rope_layers(fields, config.layers);
  read_chunks(fields, config);
  if (fields.flag("attn_temperature_tuning", true)) {
    config.rope.query_growth = fields.number("attn_scale", 0, 1e6, 0.1);
    config.rope.query_span = static_cast<int>(fields.integer("floor_scale", 1, INT32_MAX, 8192));
  }
  config.experts = read_experts(fields, "intermediate_size");
  config.experts.normalise = false;
  config.experts.sigmoid = config.experts.weigh_input = true;
  config.experts.shared_width = config.experts.width;
  config.experts.shared_gated = false;
  config.experts.layers = read_moe_layers(fields, config.layers);
  config.d_mlp = static_cast<int>(fields.integer("intermediate_size_mlp", 1, INT32_MAX, 16384));
  return config;
}

ModelConfig read_inner(const Fields& fields) { return read(fields.object("text_config")); }

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("model.layers.{}.feed_forward.{}", layer, name)};
  };
  const auto experts = [&](const char* name, std::int64_t first, std::int64_t outputs) {
    Source source = at(name);
    source.transposed = true;
    source.first = first;
    source.outputs = outputs;
    return source;
  };
  const std::int64_t width = config.experts.width;
  switch (weight) {
    case Weight::gate: return at("gate_proj.weight");
    case Weight::up: return at("up_proj.weight");
    case Weight::down: return at("down_proj.weight");
    case Weight::router: return at("router.weight");
    case Weight::expert_gate: return experts("experts.gate_up_proj", 0, 2 * width);
    case Weight::expert_up: return experts("experts.gate_up_proj", width, 2 * width);
    case Weight::expert_down: return experts("experts.down_proj", 0, config.d_model);
    case Weight::shared_gate: return at("shared_expert.gate_proj.weight");
    case Weight::shared_up: return at("shared_expert.up_proj.weight");
    case Weight::shared_down: return at("shared_expert.down_proj.weight");
    default: break;
  }
  Source source = llama_like_source(config, weight, layer);
  if (weight == Weight::q || weight == Weight::q_bias) source.interleaved_heads = config.heads;
  if (weight == Weight::k || weight == Weight::k_bias) source.interleaved_heads = config.kv_heads;
  return source;
}

Source source_inner(const ModelConfig& config, Weight weight, int layer) {
  Source inner = source(config, weight, layer);
  inner.tensor = "language_model." + inner.tensor;
  return inner;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Llama4ForCausalLM");
  const auto layers = static_cast<std::size_t>(config.layers);
  json["model_type"] = "llama4_text";
  json["attention_bias"] = config.qkv_bias;
  json["use_qk_norm"] = config.qk_norm == QkNorm::rotated;
  json["no_rope_layers"] =
      config.rope_layers.empty() ? std::vector<std::uint8_t>(layers, 1) : config.rope_layers;
  int width = 0;
  json["layer_types"] = Json::array();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const int window = config.windows.empty() ? 0 : config.windows[layer];
    width = std::max(width, window);
    json["layer_types"].push_back(window > 0 ? "chunked_attention" : "full_attention");
  }
  json["attention_chunk_size"] = width > 0 ? Json(width) : Json();
  json["attn_temperature_tuning"] = config.rope.query_growth != 0;
  json["attn_scale"] = config.rope.query_growth;
  json["floor_scale"] = config.rope.query_span;
  json["intermediate_size"] = config.experts.width;
  json["intermediate_size_mlp"] = config.d_mlp;
  json["num_local_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.per_token;
  json["moe_layers"] = Json::array();
  for (int layer = 0; layer < config.layers; ++layer) {
    if (is_sparse(config, layer)) json["moe_layers"].push_back(layer);
  }
  return json;
}

Json write_inner(const ModelConfig& config) {
  return {{"architectures", {"Llama4ForConditionalGeneration"}},
          {"model_type", "llama4"},
          {"tie_word_embeddings", config.tied},
          {"text_config", write(config)}};
}

}  // namespace

const Family llama4_text_family = {.name = "llama4_text",
                                   .prefix = "model.",
                                   .layers = "layers.",
                                   .read = read,
                                   .source = source,
                                   .ignores = llama_like_ignores,
                                   .write = write};

/// The text model within one that also sees images, as it is published.
const Family llama4_family = {.name = "llama4",
                              .prefix = "language_model.model.",
                              .layers = "layers.",
                              .read = read_inner,
                              .source = source_inner,
                              .ignores = llama_like_ignores,
                              .write = write_inner};

}  // namespace plumb
