#include "checkpoint/rope_config.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <vector>

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

std::vector<double> read_factors(const Fields& scaling, const char* field, int count) {
  const Json& value = scaling.raw(field);
  const std::string expected = fmt::format("a list of {} positive numbers", count);
  if (!value.is_array() || value.size() != static_cast<std::size_t>(count)) {
    scaling.wrong(field, expected);
  }
  std::vector<double> factors;
  for (const Json& factor : value) {
    if (!factor.is_number() || !(factor.get<double>() >= tiny && factor.get<double>() <= largest)) {
      scaling.wrong(field, expected);
    }
    factors.push_back(factor.get<double>());
  }
  return factors;
}

int rotated_channels(const Fields& fields, const RopeForm& form, double share, int d_head) {
  if (share != 1.0 && !form.partial) {
    fields.unsupported(form.share_field, "but this family rotates every channel");
  }
  return static_cast<int>(d_head * share);
}

void read_scaling(const Fields& scaling, const Fields& config, int context, Rope& rope) {
  const std::string field = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.text(field, "default");
  if (type == "default") return;
  // Phi-style configs name the original context beside the scaling, which then rules.
  const Fields& holder = config.has("original_max_position_embeddings") ? config : scaling;
  const int original =
      static_cast<int>(holder.integer("original_max_position_embeddings", 1, INT32_MAX, context));
  if ((type == "yarn" || type == "longrope" || type == "su") && !scaling.has("factor")) {
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
  } else if (type == "longrope" || type == "su") {
    rope.scaling = RopeScaling::longrope;
    rope.original_context = original;
    const double inferred =
        rope.factor <= 1 ? 1.0 : std::sqrt(1 + std::log(rope.factor) / std::log(original));
    rope.attention_factor = scaling.number("attention_factor", tiny, largest, inferred);
    rope.short_factors = read_factors(scaling, "short_factor", rope.dims / 2);
    rope.long_factors = read_factors(scaling, "long_factor", rope.dims / 2);
  } else {
    scaling.unsupported(field,
                        "but plumb knows default, linear, dynamic, llama3, yarn and longrope");
  }
}

}  // namespace

double yarn_attention_factor(double factor) { return yarn_scale(factor, 1); }

Rope read_rope(const Fields& fields, int d_head, int context, const RopeForm& form) {
  Rope rope;
  rope.theta = fields.number(form.theta_field, tiny, largest, form.theta);
  const double share = fields.number(form.share_field, 0, 1, form.share);
  rope.dims = rotated_channels(fields, form, share, d_head);
  // transformers lets rope_scaling, where given, replace rope_parameters.
  const char* holder = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!fields.has(holder)) return rope;
  const Fields scaling = fields.object(holder);
  for (const auto& [key, value] : scaling.json().items()) {
    if (value.is_object()) {
      scaling.unsupported(key, "but this family has one rotation for all layers");
    }
  }
  rope.theta = scaling.number("rope_theta", tiny, largest, rope.theta);
  rope.dims =
      rotated_channels(scaling, form, scaling.number("partial_rotary_factor", 0, 1, share), d_head);
  read_scaling(scaling, fields, context, rope);
  return rope;
}

LayerRopes read_layer_ropes(const Fields& fields, int d_head, int context, const RopeForm& full,
                            const RopeForm& window) {
  LayerRopes ropes;
  const bool nested = !fields.has("rope_scaling") && fields.has("rope_parameters");
  if (!nested) {
    ropes.full = read_rope(fields, d_head, context, full);
    ropes.window.dims = d_head;
    ropes.window.theta = fields.number(window.theta_field, tiny, largest, window.theta);
    return ropes;
  }
  const Fields both = fields.object("rope_parameters");
  const auto read_one = [&](const char* type, const RopeForm& form, Rope& rope) {
    rope.dims = d_head;
    rope.theta = form.theta;
    if (!both.has(type)) return;
    const Fields one = both.object(type);
    rope.theta = one.number("rope_theta", tiny, largest, form.theta);
    rope.dims = rotated_channels(one, form, one.number("partial_rotary_factor", 0, 1, 1), d_head);
    read_scaling(one, fields, context, rope);
  };
  for (const auto& [key, value] : both.json().items()) {
    if (key != "full_attention" && key != "sliding_attention") {
      both.unsupported(key, "but plumb knows full_attention and sliding_attention there");
    }
  }
  read_one("full_attention", full, ropes.full);
  read_one("sliding_attention", window, ropes.window);
  return ropes;
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
    case RopeScaling::longrope:
      scaling = {{"rope_type", "longrope"},
                 {"short_factor", rope.short_factors},
                 {"long_factor", rope.long_factors},
                 {"attention_factor", rope.attention_factor},
                 {"original_max_position_embeddings", rope.original_context}};
      break;
  }
  if (!scaling.is_null()) scaling["factor"] = rope.factor;
  config["rope_scaling"] = scaling;
}

}  // namespace plumb
