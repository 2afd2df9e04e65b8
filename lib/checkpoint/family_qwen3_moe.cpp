// Qwen3-MoE: Qwen3 with experts in all layers, or in some.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config =
      read_llama_like(fields, {.kv_heads = 4, .context = 32768, .reads = expert_counts});
  config.qk_norm = QkNorm::head;
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  // Unlike in the dense family, a window is one for all layers.
  if (fields.flag("use_sliding_window", false) &&
      (!fields.json().contains("sliding_window") || fields.has("sliding_window"))) {
    const auto window = static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX, 4096));
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
  if (fields.has("layer_types")) {
    fields.unsupported("layer_types", "which model_type qwen3_moe does not have");
  }
  config.experts = read_experts(fields, "moe_intermediate_size");
  config.experts.layers = read_sparse_layers(fields, config.layers);
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Qwen3MoeForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  json["use_sliding_window"] = !config.windows.empty();
  json["sliding_window"] = config.windows.empty() ? Json() : Json(config.windows.front());
  write_experts(config, "moe_intermediate_size", json);
  write_sparse_layers(config, json);
  return json;
}

}  // namespace

const Family qwen3_moe_family = {.name = "qwen3_moe",
                                 .prefix = "model.",
                                 .layers = "layers.",
                                 .read = read,
                                 .source = llama_moe_source,
                                 .ignores = llama_like_ignores,
                                 .write = write};

}  // namespace plumb
