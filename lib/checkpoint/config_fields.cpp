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
    case RopeScaling::longrope: return "longrope";
  }
  return "none";
}

const char* name_of(Positions positions) {
  switch (positions) {
    case Positions::rope: return "rope";
    case Positions::learned: return "learned";
    case Positions::alibi: return "alibi";
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

const char* name_of(NormPlace place) {
  switch (place) {
    case NormPlace::before: return "before";
    case NormPlace::after: return "after";
    case NormPlace::both: return "both";
  }
  return "before";
}

const char* name_of(QkNorm norm) {
  switch (norm) {
    case QkNorm::none: return "none";
    case QkNorm::head: return "head";
    case QkNorm::whole: return "whole";
    case QkNorm::rotated: return "rotated";
  }
  return "none";
}

void add_rope(const Rope& rope, const std::string& name, Json& fields) {
  fields[name + ".theta"] = rope.theta;
  fields[name + ".dims"] = rope.dims;
  fields[name + ".scaling"] = name_of(rope.scaling);
  if (rope.query_growth != 0) {
    fields[name + ".query_growth"] = rope.query_growth;
    fields[name + ".query_span"] = rope.query_span;
  }
  if (rope.scaling == RopeScaling::none) return;
  if (rope.scaling != RopeScaling::longrope) fields[name + ".factor"] = rope.factor;
  if (rope.scaling == RopeScaling::linear) return;
  fields[name + ".original_context"] = rope.original_context;
  if (rope.scaling == RopeScaling::llama3) {
    fields[name + ".low_freq_factor"] = rope.low_freq_factor;
    fields[name + ".high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::yarn) {
    fields[name + ".beta_fast"] = rope.beta_fast;
    fields[name + ".beta_slow"] = rope.beta_slow;
    fields[name + ".attention_factor"] = rope.attention_factor;
    fields[name + ".truncate"] = rope.truncate;
  }
  if (rope.scaling == RopeScaling::longrope) {
    fields[name + ".attention_factor"] = rope.attention_factor;
    fields[name + ".short_factors"] = rope.short_factors;
    fields[name + ".long_factors"] = rope.long_factors;
  }
}

/// Switches that most families leave as they are.
void add_rare(const ModelConfig& config, Json& fields) {
  const ModelConfig plain;
  const auto add = [&](const char* name, const auto& value, const auto& usual) {
    if (value != usual) fields[name] = value;
  };
  if (config.norm_place != plain.norm_place) fields["norm_place"] = name_of(config.norm_place);
  if (config.norm == Norm::layer) add("norm_bias", config.norm_bias, plain.norm_bias);
  add("norm_gain", config.norm_gain, plain.norm_gain);
  add("parallel", config.parallel, plain.parallel);
  add("shared_norm", config.shared_norm, plain.shared_norm);
  add("embed_scale", config.embed_scale, plain.embed_scale);
  add("attention_scale", config.attention_scale, plain.attention_scale);
  add("score_cap", config.score_cap, plain.score_cap);
  add("logit_cap", config.logit_cap, plain.logit_cap);
  add("qkv_clip", config.qkv_clip, plain.qkv_clip);
  add("sink_logits", config.sink_logits, plain.sink_logits);
  add("gated_attention", config.gated_attention, plain.gated_attention);
  if (config.positions == Positions::alibi) {
    fields["alibi_bias"] = config.alibi_bias;
    add("alibi_scale", config.alibi_scale, plain.alibi_scale);
  }
}

void add_experts(const ModelConfig& config, Json& fields) {
  const Experts& experts = config.experts;
  if (experts.count == 0) return;
  fields["experts.count"] = experts.count;
  fields["experts.per_token"] = experts.per_token;
  fields["experts.width"] = experts.width;
  fields["experts.normalise"] = experts.normalise;
  fields["experts.sigmoid"] = experts.sigmoid;
  fields["experts.weigh_input"] = experts.weigh_input;
  fields["experts.shared_width"] = experts.shared_width;
  if (experts.shared_width > 0) fields["experts.shared_gated"] = experts.shared_gated;
  fields["experts.router_bias"] = experts.router_bias;
  fields["experts.biases"] = experts.biases;
  fields["experts.limit"] = experts.limit;
  if (experts.limit > 0) fields["experts.alpha"] = experts.alpha;
  const auto& sparse = experts.layers;
  if (std::count(sparse.begin(), sparse.end(), 0) > 0) fields["experts.layers"] = sparse;
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
      {"qk_norm", name_of(config.qk_norm)},
      {"tied", config.tied},
  };
  add_rare(config, fields);
  if (config.positions == Positions::rope) add_rope(config.rope, "rope", fields);
  const auto& rotates = config.rope_layers;
  if (std::count(rotates.begin(), rotates.end(), 0) > 0) fields["rope_layers"] = rotates;
  const auto& windows = config.windows;
  if (std::any_of(windows.begin(), windows.end(), [](int window) { return window != 0; })) {
    fields["windows"] = windows;
    if (config.chunked) fields["chunked"] = true;
    if (config.positions == Positions::rope && config.window_rope.dims != 0) {
      add_rope(config.window_rope, "window_rope", fields);
    }
  }
  add_experts(config, fields);
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
