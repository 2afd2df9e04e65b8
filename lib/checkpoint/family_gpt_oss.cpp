// gpt-oss: experts with biases and a clamped unit, a learned sink logit for
// every head, windows in every second layer, yarn.
#include <fmt/format.h>

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

/// config.json with the rotation that the family assumes where it says nothing.
Json completed(const Fields& fields) {
  Json json = fields.json();
  if (!fields.has("rope_scaling") && !fields.has("rope_parameters")) {
    json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 32.0},
                            {"beta_fast", 32.0},   {"beta_slow", 1.0},
                            {"truncate", false},   {"original_max_position_embeddings", 4096}};
  }
  return json;
}

ModelConfig read(const Fields& fields) {
  if (fields.has("quantization_config")) {
    const Fields quantisation = fields.object("quantization_config");
    if (quantisation.text("quant_method") != "mxfp4")
      quantisation.unsupported("quant_method", "but of quantised models plumb reads mxfp4 alone");
  }
  const Json json = completed(fields);
  const Fields full(json, fields.where());
  std::vector<std::string_view> known = expert_counts;
  known.emplace_back("quantization_config");
  ModelConfig config = read_llama_like(full, {.kv_heads = 8,
                                              .d_head = 64,
                                              .context = 131072,
                                              .theta = 150'000,
                                              .reads = std::move(known)});
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", true);
  config.sink_logits = true;
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) sliding.push_back(layer % 2 == 0);
  config.windows = read_layer_windows(full, sliding, 128);
  config.experts = read_experts(full, "intermediate_size");
  config.experts.normalise = true;
  config.experts.router_bias = config.experts.biases = true;
  config.experts.limit = fields.number("swiglu_limit", 1e-6, 1e6, 7.0);
  config.experts.alpha = fields.number("swiglu_alpha", 1e-6, 1e6, 1.702);
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("model.layers.{}.{}", layer, name)};
  };
  // Gate and up take turns along the outputs, of which the stored matrices have
  // the last axis.
  const auto half = [&](const char* name, std::int64_t first, bool matrix) {
    Source source = at(name);
    source.transposed = matrix;
    source.first = first;
    source.group = 1;
    source.stride = 2;
    source.outputs = std::int64_t{2} * config.experts.width;
    return source;
  };
  switch (weight) {
    case Weight::sinks: return at("self_attn.sinks");
    case Weight::router: return at("mlp.router.weight");
    case Weight::router_bias: return at("mlp.router.bias");
    case Weight::expert_gate: return half("mlp.experts.gate_up_proj", 0, true);
    case Weight::expert_up: return half("mlp.experts.gate_up_proj", 1, true);
    case Weight::expert_gate_bias: return half("mlp.experts.gate_up_proj_bias", 0, false);
    case Weight::expert_up_bias: return half("mlp.experts.gate_up_proj_bias", 1, false);
    case Weight::expert_down: {
      Source down = at("mlp.experts.down_proj");
      down.transposed = true;
      return down;
    }
    case Weight::expert_down_bias: return at("mlp.experts.down_proj_bias");
    default: return llama_like_source(config, weight, layer);
  }
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "GptOssForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  write_layer_windows(config, json);
  if (config.rope.scaling == RopeScaling::none) json["rope_scaling"] = {{"rope_type", "default"}};
  json["num_local_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.per_token;
  json["intermediate_size"] = config.experts.width;
  json["swiglu_limit"] = config.experts.limit;
  json["swiglu_alpha"] = config.experts.alpha;
  return json;
}

}  // namespace

const Family gpt_oss_family = {.name = "gpt_oss",
                               .prefix = "model.",
                               .layers = "layers.",
                               .read = read,
                               .source = source,
                               .ignores = llama_like_ignores,
                               .write = write};

}  // namespace plumb
