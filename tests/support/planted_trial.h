// A planted model drawn at random, and the locator run on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/p0.h"
#include "plumb/plant.h"

namespace plumb::test {

/// Kinds of planted models: routes, and what can be added to the positional one.
const std::vector<std::string>& trial_kinds();

/// Sizes, depth, norm, positions, groups and noise drawn from the seed.
PlantOptions draw_trial(const std::string& kind, std::uint64_t seed);

/// "llama" of the options: "6 layers, 4/2 heads, width 160, layer norm, alibi, detect 1, write 4".
std::string describe(const PlantOptions& options);

/// Tokens in every sequence of a trial: few, since a search costs what its tokens cost; the claims
/// rest on the number of sequences.
inline constexpr std::int64_t trial_length = 20;
/// The position that is made to see itself alone.
inline constexpr std::int64_t trial_masked_position = 10;

/// The sequences that a trial is read on, [32, trial_length]; interventions run on the first ones.
at::Tensor trial_tokens(const Planted& planted);
inline constexpr std::int64_t trial_sequences = 16;

P0Report locate_trial(const Planted& planted, const Progress& progress = {});

}  // namespace plumb::test
