// Mistral: Llama with one sliding window for all layers.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {.kv_heads = 8, .context = 131072});
  // null means no window, whereas a file without the field has the first release's.
  const bool absent = !fields.json().contains("sliding_window");
  if (absent || fields.has("sliding_window")) {
    const auto window = static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX, 4096));
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
  if (fields.has("layer_types")) {
    fields.unsupported("layer_types", "which model_type mistral does not have");
  }
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "MistralForCausalLM");
  json["sliding_window"] = config.windows.empty() ? Json() : Json(config.windows.front());
  return json;
}

}  // namespace

const Family mistral_family = {.name = "mistral",
                               .prefix = "model.",
                               .layers = "layers.",
                               .read = read,
                               .source = llama_like_source,
                               .ignores = llama_like_ignores,
                               .write = write};

}  // namespace plumb
