// Flags and inputs of `plumb p0`: of the command, and of what plans it.
#pragma once

#include "plumb/p0.h"
#include "shared.h"

namespace plumb::app {

/// --causal-sequences and --causal-length.
void offer_causal(CLI::App& app, P0Options& options);

/// The same content without BOS, with one, and random ids. --bos none leaves out the second,
/// --no-random the third.
P0Inputs make_p0_inputs(const InputFlags& flags, bool random, const Chosen& chosen,
                        std::uint64_t seed);

}  // namespace plumb::app
