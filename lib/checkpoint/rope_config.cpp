#include "checkpoint/rope_config.h"

#include <cmath>
#include <string>

namespace plumb {
namespace {

constexpr double largest = 1e12;
constexpr double tiny = 1e-12;

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// A field that is 0 or absent means its default, as in transformers.
double number_or_default(const Fields& fields, const char* field, double fallback) {
  const double value = fields.number(field, 0, largest, fallback);
  return value == 0 ? fallback : value;
}

void read_scaling(const Fields& scaling, const Fields& config, int context, Rope& rope) {
  const std::string field = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.text(field, "default");
  if (type == "default") return;
  // Phi-style configs name the original context beside the scaling, which then rules.
  const Fields& holder = config.has("original_max_position_embeddings") ? config : scaling;
  const int original =
      static_cast<int>(holder.integer("original_max_position_embeddings", 1, INT32_MAX, context));
  if (type == "yarn" && !scaling.has("factor")) {
    rope.factor = static_cast<double>(context) / original;
  } else {
    rope.factor = scaling.number("factor", tiny, largest);
  }
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::dynamic;
    rope.original_context = context;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.original_context = original;
    rope.low_freq_factor = scaling.number("low_freq_factor", tiny, largest);
    rope.high_freq_factor = scaling.number("high_freq_factor", tiny, largest);
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.original_context = original;
    rope.beta_fast = number_or_default(scaling, "beta_fast", 32);
    rope.beta_slow = number_or_default(scaling, "beta_slow", 1);
    rope.truncate = scaling.flag("truncate", true);
    const double mscale = scaling.number("mscale", 0, largest, 0);
    const double mscale_all = scaling.number("mscale_all_dim", 0, largest, 0);
    const double inferred = mscale > 0 && mscale_all > 0 ? yarn_scale(rope.factor, mscale) /
                                                               yarn_scale(rope.factor, mscale_all)
                                                         : yarn_attention_factor(rope.factor);
    rope.attention_factor = scaling.number("attention_factor", tiny, largest, inferred);
  } else {
    scaling.unsupported(field, "but plumb knows default, linear, dynamic, llama3 and yarn");
  }
}

}  // namespace

double yarn_attention_factor(double factor) { return yarn_scale(factor, 1); }

Rope read_rope(const Fields& fields, int d_head, int context, double default_theta) {
  Rope rope;
  rope.dims = d_head;
  rope.theta = fields.number("rope_theta", tiny, largest, default_theta);
  // transformers lets rope_scaling, where given, replace rope_parameters.
  const char* holder = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!fields.has(holder)) return rope;
  const Fields scaling = fields.object(holder);
  for (const auto& [key, value] : scaling.json().items()) {
    if (value.is_object()) scaling.unsupported(key, "but plumb has one rotation for all layers");
  }
  rope.theta = scaling.number("rope_theta", tiny, largest, rope.theta);
  if (scaling.number("partial_rotary_factor", 0, 1, 1) != 1) {
    scaling.unsupported("partial_rotary_factor", "but this family rotates every channel");
  }
  read_scaling(scaling, fields, context, rope);
  return rope;
}

void write_rope(const Rope& rope, Json& config) {
  config["rope_theta"] = rope.theta;
  Json scaling;
  switch (rope.scaling) {
    case RopeScaling::none: break;
    case RopeScaling::linear: scaling = {{"rope_type", "linear"}}; break;
    case RopeScaling::dynamic: scaling = {{"rope_type", "dynamic"}}; break;
    case RopeScaling::llama3:
      scaling = {{"rope_type", "llama3"},
                 {"low_freq_factor", rope.low_freq_factor},
                 {"high_freq_factor", rope.high_freq_factor},
                 {"original_max_position_embeddings", rope.original_context}};
      break;
    case RopeScaling::yarn:
      scaling = {{"rope_type", "yarn"},
                 {"beta_fast", rope.beta_fast},
                 {"beta_slow", rope.beta_slow},
                 {"attention_factor", rope.attention_factor},
                 {"original_max_position_embeddings", rope.original_context}};
      if (!rope.truncate) scaling["truncate"] = false;
      break;
  }
  if (!scaling.is_null()) scaling["factor"] = rope.factor;
  config["rope_scaling"] = scaling;
}

}  // namespace plumb
