#include "checkpoint/config_fields.h"

#include <fmt/format.h>

#include <algorithm>

namespace plumb {
namespace {

const char* name_of(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::none: return "none";
    case RopeScaling::linear: return "linear";
    case RopeScaling::dynamic: return "dynamic";
    case RopeScaling::llama3: return "llama3";
    case RopeScaling::yarn: return "yarn";
  }
  return "none";
}

const char* name_of(Positions positions) {
  switch (positions) {
    case Positions::rope: return "rope";
    case Positions::learned: return "learned";
    case Positions::none: return "none";
  }
  return "none";
}

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::silu: return "silu";
    case Activation::gelu: return "gelu";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::relu: return "relu";
  }
  return "silu";
}

void add_rope(const ModelConfig& config, Json& fields) {
  const Rope& rope = config.rope;
  fields["rope.theta"] = rope.theta;
  fields["rope.dims"] = rope.dims;
  fields["rope.scaling"] = name_of(rope.scaling);
  if (rope.scaling == RopeScaling::none) return;
  fields["rope.factor"] = rope.factor;
  if (rope.scaling == RopeScaling::linear) return;
  fields["rope.original_context"] = rope.original_context;
  if (rope.scaling == RopeScaling::llama3) {
    fields["rope.low_freq_factor"] = rope.low_freq_factor;
    fields["rope.high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::yarn) {
    fields["rope.beta_fast"] = rope.beta_fast;
    fields["rope.beta_slow"] = rope.beta_slow;
    fields["rope.attention_factor"] = rope.attention_factor;
    fields["rope.truncate"] = rope.truncate;
  }
}

}  // namespace

Json config_fields(const ModelConfig& config) {
  Json fields = {
      {"family", config.family},
      {"layers", config.layers},
      {"heads", config.heads},
      {"kv_heads", config.kv_heads},
      {"d_model", config.d_model},
      {"d_head", config.d_head},
      {"d_mlp", config.d_mlp},
      {"vocab", config.vocab},
      {"context", config.context},
      {"norm", config.norm == Norm::rms ? "rms" : "layer"},
      {"norm_eps", config.norm_eps},
      {"positions", name_of(config.positions)},
      {"activation", name_of(config.activation)},
      {"gated_mlp", config.gated_mlp},
      {"qkv_bias", config.qkv_bias},
      {"out_bias", config.out_bias},
      {"mlp_bias", config.mlp_bias},
      {"qk_norm", config.qk_norm},
      {"tied", config.tied},
  };
  if (config.positions == Positions::rope) add_rope(config, fields);
  const auto& rotates = config.rope_layers;
  if (std::count(rotates.begin(), rotates.end(), 0) > 0) fields["rope_layers"] = rotates;
  const auto& windows = config.windows;
  if (std::any_of(windows.begin(), windows.end(), [](int window) { return window != 0; })) {
    fields["windows"] = windows;
  }
  return fields;
}

std::string first_difference(const ModelConfig& a, const ModelConfig& b) {
  const Json left = config_fields(a);
  const Json right = config_fields(b);
  const auto shown = [](const Json& fields, const std::string& key) {
    return fields.contains(key) ? fields.at(key).dump() : std::string("not set");
  };
  for (const Json* keys : {&left, &right}) {
    for (const auto& [key, value] : keys->items()) {
      if (left.contains(key) && right.contains(key) && left.at(key) == right.at(key)) continue;
      return fmt::format("{} is {} against {}", key, shown(left, key), shown(right, key));
    }
  }
  return {};
}

}  // namespace plumb
