// Phi-3 and Phi-4: Llama with q, k and v in one matrix, gate and up in another, and rotation of
// some channels only.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(
      fields, {.context = 4096, .partial_rope = true, .reads = {"partial_rotary_factor"}});
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  const char* holder = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (config.rope.scaling == RopeScaling::longrope) {
    if (!fields.has("original_max_position_embeddings")) {
      fields.wrong("original_max_position_embeddings", "given, as the rotation is longrope");
    }
  } else if (config.rope.scaling != RopeScaling::none) {
    fields.unsupported(holder, "but this family knows default and longrope");
  }
  if (fields.has("sliding_window")) {
    const auto window = static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX));
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
  if (fields.has("layer_types")) {
    fields.unsupported("layer_types", "which model_type phi3 does not have");
  }
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const std::int64_t queries = std::int64_t{config.heads} * config.d_head;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.d_head;
  const std::int64_t neurons = config.d_mlp;
  const auto fused = [&](const char* name, std::int64_t first, std::int64_t outputs) {
    Source source = llama_like_source(config, Weight::q, layer);
    source.tensor = source.tensor.substr(0, source.tensor.find("self_attn")) + name;
    source.first = first;
    source.outputs = outputs;
    return source;
  };
  const char* qkv = "self_attn.qkv_proj.weight";
  const char* gate_up = "mlp.gate_up_proj.weight";
  switch (weight) {
    case Weight::q: return fused(qkv, 0, queries + 2 * keys);
    case Weight::k: return fused(qkv, queries, queries + 2 * keys);
    case Weight::v: return fused(qkv, queries + keys, queries + 2 * keys);
    case Weight::gate: return fused(gate_up, 0, 2 * neurons);
    case Weight::up: return fused(gate_up, neurons, 2 * neurons);
    default: return llama_like_source(config, weight, layer);
  }
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Phi3ForCausalLM");
  json["partial_rotary_factor"] = static_cast<double>(config.rope.dims) / config.d_head;
  json["sliding_window"] = config.windows.empty() ? Json() : Json(config.windows.front());
  if (config.rope.scaling == RopeScaling::longrope) {
    json["original_max_position_embeddings"] = config.rope.original_context;
  }
  return json;
}

}  // namespace

const Family phi3_family = {.name = "phi3",
                            .prefix = "model.",
                            .layers = "layers.",
                            .read = read,
                            .source = source,
                            .ignores = llama_like_ignores,
                            .write = write};

}  // namespace plumb
