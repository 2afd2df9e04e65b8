// Rotary embedding in config.json: `rope_theta` + `rope_scaling`, or `rope_parameters`.
#pragma once

#include "checkpoint/json.h"
#include "plumb/config.h"

namespace plumb {

/// What a family calls the rotation's fields, and assumes where they are absent.
struct RopeForm {
  double theta = 10000;
  bool partial = false;  ///< only some channels may rotate
  double share = 1.0;    ///< of the channels, where config.json says nothing
  const char* theta_field = "rope_theta";
  const char* share_field = "partial_rotary_factor";
};

/// Defaults are those of transformers, whose formulas the decoder follows. Throws unsupported on a
/// type that is unknown, bad_file on a value out of range.
Rope read_rope(const Fields& fields, int d_head, int context, const RopeForm& form);

/// The rotation of layers that see all keys, and that of layers with a window: either
/// `rope_parameters` holds one object for each, or the older fields speak of the former and
/// `window` says what is read for the latter, which is never scaled.
struct LayerRopes {
  Rope full = {};
  Rope window = {};
};
LayerRopes read_layer_ropes(const Fields& fields, int d_head, int context, const RopeForm& full,
                            const RopeForm& window);

/// Yarn's factor on cos and sin where the config gives none: 0.1 ln(factor) + 1.
double yarn_attention_factor(double factor);

/// Adds `rope_theta` and `rope_scaling`.
void write_rope(const Rope& rope, Json& config);

}  // namespace plumb
