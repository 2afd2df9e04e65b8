// Small random decoders of every kind, the same for the same seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb::test {

/// A config drawn at random: Llama-like (RMSNorm, rotary, gated, grouped heads) for even seeds,
/// GPT-2-like (LayerNorm, learned positions, biases) for odd ones. Of seeds 6, 14, ..., all blocks
/// but the first are mixtures of experts.
ModelConfig random_config(std::uint64_t seed);

/// One config for each mechanism that `random_config` never draws, or for several that go together:
/// `family` says which.
std::vector<ModelConfig> unusual_configs();

/// Of `config_kinds` indices: `random_config` of the first ones, then the unusual configs.
ModelConfig any_config(std::uint64_t index);
inline constexpr int config_kinds = 23;

/// Random weights, large enough that attention is far from uniform.
Model toy_model(const ModelConfig& config, std::uint64_t seed,
                const LoadOptions& options = {.dtype = at::kDouble});

/// Random ids [batch, length].
Tokens toy_tokens(const ModelConfig& config, std::int64_t batch, std::int64_t length,
                  std::uint64_t seed);

}  // namespace plumb::test
