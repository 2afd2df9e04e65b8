// Rotary embedding in config.json: `rope_theta` + `rope_scaling`, or `rope_parameters`.
#pragma once

#include "checkpoint/json.h"
#include "plumb/config.h"

namespace plumb {

/// All `d_head` channels rotate. Defaults are those of transformers, whose formulas the decoder
/// follows. Throws unsupported on a type that is unknown, bad_file on a value out of range.
Rope read_rope(const Fields& fields, int d_head, int context, double default_theta);

/// Yarn's factor on cos and sin where the config gives none: 0.1 ln(factor) + 1.
double yarn_attention_factor(double factor);

/// Adds `rope_theta` and `rope_scaling`.
void write_rope(const Rope& rope, Json& config);

}  // namespace plumb
