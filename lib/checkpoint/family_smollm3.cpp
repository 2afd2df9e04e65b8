// SmolLM3: Llama in which some layers do not rotate.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config =
      read_llama_like(fields, {.kv_heads = 4, .context = 32768, .theta = 2'000'000, .tied = true});
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  config.mlp_bias = fields.flag("mlp_bias", false);
  const auto layers = static_cast<std::size_t>(config.layers);
  std::vector<std::uint8_t> rotates(layers, 1);
  if (fields.has("no_rope_layers")) {
    const auto given = fields.integers("no_rope_layers", 0, 1);
    if (given.size() < layers) fields.wrong("no_rope_layers", fmt::format("a list of {}", layers));
    for (std::size_t i = 0; i < layers; ++i) rotates[i] = given[i] != 0;
  } else {
    const auto interval =
        static_cast<std::size_t>(fields.integer("no_rope_layer_interval", 1, INT32_MAX, 4));
    for (std::size_t i = 0; i < layers; ++i) rotates[i] = (i + 1) % interval != 0;
  }
  std::vector<bool> sliding;
  for (const std::uint8_t layer : rotates) sliding.push_back(layer == 0);
  config.windows = read_windows(fields, sliding);
  const bool all =
      std::all_of(rotates.begin(), rotates.end(), [](auto layer) { return layer == 1; });
  if (!all) config.rope_layers = rotates;
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "SmolLM3ForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  json["mlp_bias"] = config.mlp_bias;
  Json rotates = Json::array();
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto at = static_cast<std::size_t>(layer);
    rotates.push_back(config.rope_layers.empty() ? 1 : int{config.rope_layers[at]});
  }
  json["no_rope_layers"] = rotates;
  write_windows(config, json);
  return json;
}

}  // namespace

const Family smollm3_family = {.name = "smollm3",
                               .prefix = "model.",
                               .layers = "layers.",
                               .read = read,
                               .source = llama_like_source,
                               .ignores = llama_like_ignores,
                               .write = write};

}  // namespace plumb
