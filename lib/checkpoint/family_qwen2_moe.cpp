// Qwen2-MoE: Qwen2 with experts, one of which every token visits.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config =
      read_llama_like(fields, {.kv_heads = 16, .context = 32768, .reads = expert_counts});
  config.qkv_bias = fields.flag("qkv_bias", true);
  // Unlike in the dense family, it is every second of the first layers that has the window.
  const std::int64_t last = fields.integer("max_window_layers", 0, INT32_MAX, 28);
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) {
    sliding.push_back(layer % 2 == 0 && layer < last);
  }
  config.windows = read_windows(fields, sliding);
  config.experts = read_experts(fields, "moe_intermediate_size");
  config.experts.shared_width =
      static_cast<int>(fields.integer("shared_expert_intermediate_size", 1, INT32_MAX));
  config.experts.layers = read_sparse_layers(fields, config.layers);
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Qwen2MoeForCausalLM");
  json["qkv_bias"] = config.qkv_bias;
  write_windows(config, json);
  write_experts(config, "moe_intermediate_size", json);
  json["shared_expert_intermediate_size"] = config.experts.shared_width;
  write_sparse_layers(config, json);
  return json;
}

}  // namespace

const Family qwen2_moe_family = {.name = "qwen2_moe",
                                 .prefix = "model.",
                                 .layers = "layers.",
                                 .read = read,
                                 .source = llama_moe_source,
                                 .ignores = llama_like_ignores,
                                 .write = write};

}  // namespace plumb
