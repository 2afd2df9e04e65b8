// Every token of the vocabulary as position zero.
#pragma once

#include "sink/p0_context.h"

namespace plumb {

/// Runs all tokens as sequences of length 1, to the last onset, and fills each report's vocabulary
/// fields. What a later position sees at position 0 is just this (identity U3). For a wave whose
/// position 0 does not spike, a token counts by the attention it draws instead, put first in some
/// of the sequences: by half of the sink's excess over the null.
void sweep_vocabulary(P0Context& context, std::vector<WaveReport>& reports);

/// How many tokens it tries of a wave: all of the vocabulary, or without a spike at most 1,024.
std::int64_t vocabulary_tried(const P0Context& context, std::size_t wave);

}  // namespace plumb
