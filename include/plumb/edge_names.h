// Edges by name: one, or all that fit a pattern.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "plumb/edges.h"

namespace plumb {

/// The edges that any of the words names, rising. Words are separated by spaces or commas; in one
/// like "a0.h1->a3.h4<q>", "*" stands for any characters: "*->logits", "input->m*",
/// "a5.*->a9.h6<*>". Throws bad_argument where a word names no edge of the model.
std::vector<std::int64_t> edges_named(const EdgeSpace& space, std::string_view words);

/// `count` of the edges drawn at random, rising; all if there are no more. Throws bad_argument if
/// the count is not positive.
std::vector<std::int64_t> sample_of(std::vector<std::int64_t> edges, std::int64_t count,
                                    std::uint64_t seed);

}  // namespace plumb
