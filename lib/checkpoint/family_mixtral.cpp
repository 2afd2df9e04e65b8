// Mixtral: Mistral with experts in every layer, whose chosen probabilities are normalised.
#include <fmt/format.h>

#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(
      fields, {.kv_heads = 8, .context = 131072, .theta = 1'000'000, .reads = expert_counts});
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  if (fields.has("sliding_window")) {
    const auto window = static_cast<int>(fields.integer("sliding_window", 1, INT32_MAX));
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
  if (fields.has("layer_types")) {
    fields.unsupported("layer_types", "which model_type mixtral does not have");
  }
  config.experts = read_experts(fields, "intermediate_size");
  config.experts.normalise = true;
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto split = [&](const char* name) {
    return Source{.tensor = fmt::format("model.layers.{}.block_sparse_moe.experts.", layer),
                  .after_expert = fmt::format(".{}.weight", name)};
  };
  switch (weight) {
    case Weight::router:
      return {.tensor = fmt::format("model.layers.{}.block_sparse_moe.gate.weight", layer)};
    case Weight::expert_gate: return split("w1");
    case Weight::expert_up: return split("w3");
    case Weight::expert_down: return split("w2");
    default: return llama_like_source(config, weight, layer);
  }
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "MixtralForCausalLM");
  json["sliding_window"] = config.windows.empty() ? Json() : Json(config.windows.front());
  json["num_local_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.per_token;
  json["intermediate_size"] = config.experts.width;
  return json;
}

}  // namespace

const Family mixtral_family = {.name = "mixtral",
                               .prefix = "model.",
                               .layers = "layers.",
                               .read = read,
                               .source = source,
                               .ignores = llama_like_ignores,
                               .write = write};

}  // namespace plumb
