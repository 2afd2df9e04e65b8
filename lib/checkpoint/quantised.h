// The blocks of GGML's quantised types: 32 weights each, and 256 in the K-quants. Products and sums
// are rounded to float32 one by one, in the order of the formats' definition.
#pragma once

#include <cstddef>
#include <cstdint>

namespace plumb {

/// One format: `expand` turns a block of `bytes` bytes into `elements` values.
template <std::size_t Elements, std::size_t Bytes>
struct Block {
  static constexpr std::size_t elements = Elements;
  static constexpr std::size_t bytes = Bytes;
};

struct Q4Zero : Block<32, 18> {
  static void expand(const std::byte* from, float* to);
};
struct Q4One : Block<32, 20> {
  static void expand(const std::byte* from, float* to);
};
struct Q5Zero : Block<32, 22> {
  static void expand(const std::byte* from, float* to);
};
struct Q5One : Block<32, 24> {
  static void expand(const std::byte* from, float* to);
};
struct Q8Zero : Block<32, 34> {
  static void expand(const std::byte* from, float* to);
};

/// 2^(exponent - 128); the two smallest are subnormal.
float half_power_of_two(std::uint8_t exponent);
/// Twice the number of a nibble: sign, two bits of exponent, one of fraction.
float twice_fp4(unsigned nibble);

struct MxFp4 : Block<32, 17> {
  static void expand(const std::byte* from, float* to);
};

struct Q2K : Block<256, 84> {
  static void expand(const std::byte* from, float* to);
};
struct Q3K : Block<256, 110> {
  static void expand(const std::byte* from, float* to);
};
struct Q4K : Block<256, 144> {
  static void expand(const std::byte* from, float* to);
};
struct Q5K : Block<256, 176> {
  static void expand(const std::byte* from, float* to);
};
struct Q6K : Block<256, 210> {
  static void expand(const std::byte* from, float* to);
};
struct Q8K : Block<256, 292> {
  static void expand(const std::byte* from, float* to);
};

}  // namespace plumb
