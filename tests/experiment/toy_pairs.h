// Toy pairs, and the comparison of the patching engine with its plain twin.
#pragma once

#include <cstdint>
#include <string>

#include "plumb/patch.h"

namespace plumb::test {

/// Pairs that differ at one position, the second one two tokens shorter than the rest.
Pairs toy_pairs(const ModelConfig& config, std::int64_t count, std::int64_t length,
                std::uint64_t seed);

/// `Sweep::each` against one forward pass for each site, in float64.
void expect_as_naive(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                     const PatchOptions& options);
void expect_as_naive(const Model& model, const Pairs& pairs, const std::string& sweep,
                     const PatchOptions& options);

}  // namespace plumb::test
