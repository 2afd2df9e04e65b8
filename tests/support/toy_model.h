// Small random decoders of every kind, the same for the same seed.
#pragma once

#include <cstdint>
#include <string>

#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb::test {

/// A config drawn at random: Llama-like (RMSNorm, rotary, gated, grouped heads) for even seeds,
/// GPT-2-like (LayerNorm, learned positions, biases) for odd ones.
ModelConfig random_config(std::uint64_t seed);

/// Random weights, large enough that attention is far from uniform.
Model toy_model(const ModelConfig& config, std::uint64_t seed,
                const LoadOptions& options = {.dtype = at::kDouble});

/// Random ids [batch, length].
Tokens toy_tokens(const ModelConfig& config, std::int64_t batch, std::int64_t length,
                  std::uint64_t seed);

}  // namespace plumb::test
