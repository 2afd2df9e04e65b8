// Mutations that keep what a format needs to be looked at any further: lengths, counts, nesting.
#pragma once

#include <cstddef>
#include <functional>
#include <random>
#include <string>
#include <string_view>

namespace plumb::fuzz {

using Random = std::minstd_rand;

/// Changes some bytes of a text, which may become up to `limit` bytes long: libFuzzer's own
/// mutation, which knows the dictionary and the comparisons of the program.
using MutateBytes = std::function<std::string(std::string_view text, std::size_t limit)>;

struct Mutation {
  Random& random;
  const MutateBytes& bytes;

  std::size_t below(std::size_t end) const { return end == 0 ? 0 : random() % end; }
  bool one_in(std::size_t count) const { return below(count) == 0; }
};

/// Each returns the input changed; by `bytes` where it is not of the format.
std::string mutate_json(std::string_view input, const Mutation& mutation);
/// Documents with zero bytes between them.
std::string mutate_jsons(std::string_view input, const Mutation& mutation);
/// Documents on lines of their own.
std::string mutate_json_lines(std::string_view input, const Mutation& mutation);
std::string mutate_safetensors(std::string_view input, const Mutation& mutation);
std::string mutate_gguf(std::string_view input, const Mutation& mutation);
std::string mutate_protobuf(std::string_view input, const Mutation& mutation);

/// Flips, drops, repeats or inserts a few bytes, knowing nothing.
std::string mutate_plainly(std::string_view text, std::size_t limit, Random& random);

/// That of the target's format.
std::string mutate(std::string_view target, std::string_view input, const Mutation& mutation);

}  // namespace plumb::fuzz
