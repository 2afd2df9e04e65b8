// Qwen3-Next where all layers have full attention: Qwen3-MoE with a gate on what the heads mix,
// gains stored less 1, partial rotation and a shared expert.
#include <fmt/format.h>

#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

constexpr const char* linear_layers =
    "but plumb has no linear attention (gated delta rule): it runs this family only where every "
    "layer is full_attention";

void refuse_linear_layers(const Fields& fields, int layers) {
  if (!fields.has("layer_types")) {
    if (fields.integer("full_attention_interval", 1, INT32_MAX, 4) == 1) return;
    fields.unsupported("full_attention_interval", linear_layers);
  }
  const std::vector<std::string> types = fields.texts("layer_types");
  if (types.size() < static_cast<std::size_t>(layers)) {
    fields.wrong("layer_types", fmt::format("a list of {}", layers));
  }
  for (int layer = 0; layer < layers; ++layer) {
    if (types[static_cast<std::size_t>(layer)] != "full_attention") {
      fields.unsupported("layer_types", linear_layers);
    }
  }
}

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(
      fields, {.kv_heads = 2,
               .d_head = 256,
               .context = 32768,
               .rope_by_layer = true,
               .reads = {"num_experts", "num_local_experts", "partial_rotary_factor"}});
  refuse_linear_layers(fields, config.layers);
  if (fields.flag("attention_bias", false)) {
    fields.unsupported("attention_bias", "but plumb has no bias in the gate of attention");
  }
  config.qk_norm = QkNorm::head;
  config.gated_attention = true;
  config.rope = read_rope(fields, config.d_head, config.context, {.partial = true, .share = 0.25});
  config.experts = read_experts(fields, "moe_intermediate_size");
  config.experts.normalise = fields.flag("norm_topk_prob", true);
  config.experts.shared_width =
      static_cast<int>(fields.integer("shared_expert_intermediate_size", 1, INT32_MAX, 512));
  config.experts.layers = read_sparse_layers(fields, config.layers);
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  // The rows of each head: d_head of the query, then as many of its gate.
  const auto half = [&](std::int64_t part) {
    const std::int64_t d_head = config.d_head;
    return Source{.tensor = fmt::format("model.layers.{}.self_attn.q_proj.weight", layer),
                  .first = part * d_head,
                  .outputs = 2 * config.heads * d_head,
                  .group = d_head,
                  .stride = 2 * d_head};
  };
  switch (weight) {
    case Weight::q: return half(0);
    case Weight::z_gate: return half(1);
    default: break;
  }
  Source source = llama_moe_source(config, weight, layer);
  switch (weight) {
    case Weight::ln1:
    case Weight::ln2:
    case Weight::q_norm:
    case Weight::k_norm:
    case Weight::final_norm: source.offset = 1.0; break;
    default: break;
  }
  return source;
}

/// Weights of a head that predicts further tokens.
bool ignores(std::string_view tensor) {
  return llama_like_ignores(tensor) || tensor.starts_with("mtp.");
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "Qwen3NextForCausalLM");
  json["attention_bias"] = false;
  json["partial_rotary_factor"] = static_cast<double>(config.rope.dims) / config.d_head;
  json["layer_types"] =
      std::vector<std::string>(static_cast<std::size_t>(config.layers), "full_attention");
  write_experts(config, "moe_intermediate_size", json);
  json["shared_expert_intermediate_size"] = config.experts.shared_width;
  write_sparse_layers(config, json);
  return json;
}

}  // namespace

const Family qwen3_next_family = {.name = "qwen3_next",
                                  .prefix = "model.",
                                  .layers = "layers.",
                                  .read = read,
                                  .source = source,
                                  .ignores = ignores,
                                  .write = write};

}  // namespace plumb
