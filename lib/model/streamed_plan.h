// What of a plan can be had block by block.
#pragma once

#include <cstdint>

#include "plumb/plan.h"

namespace plumb {

/// Whether the scores and patterns of the layer need not be made as a whole in a run of this
/// length: see `shortest_streamed`. `on_cpu`: where the run is.
bool streams_attention(const Plan& plan, int layer, std::int64_t length, bool on_cpu);

/// Whether all logits need not be there together: they are not asked for, and what is recorded of
/// them are reductions position by position.
bool streams_logits(const Plan& plan, std::int64_t length);

/// Positions whose logits are there together, where they stream.
inline constexpr std::int64_t streamed_logits = 512;

}  // namespace plumb
