// Qwen3: Llama with RMSNorm on each head of q and k, and heads of a size of their own.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {.kv_heads = 32, .d_head = 128, .context = 32768});
  config.qk_norm = QkNorm::head;
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  const std::int64_t first = fields.integer("max_window_layers", 0, INT32_MAX, 28);
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) sliding.push_back(layer >= first);
  config.windows = read_windows(fields, sliding);
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Qwen3ForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  write_windows(config, json);
  return json;
}

}  // namespace

const Family qwen3_family = {.name = "qwen3",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read,
                             .source = llama_like_source,
                             .ignores = llama_like_ignores,
                             .write = write};

}  // namespace plumb
