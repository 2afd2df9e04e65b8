// Blocks of 32 weights with a scale of their own, and an offset in the types that end in 1.
#include "checkpoint/quantised.h"

#include <array>
#include <bit>
#include <cstdint>

#include "checkpoint/numbers.h"

namespace plumb {
namespace {

constexpr std::size_t half_block = 16;
using Nibbles = std::array<std::uint8_t, half_block>;

constexpr std::array<std::uint32_t, 32> fifth_bits = [] {
  std::array<std::uint32_t, 32> bits = {};
  for (std::size_t i = 0; i < 32; ++i) bits[i] = std::uint32_t{1} << i;
  return bits;
}();

// Byte i of the nibbles holds weight i (low) and i + 16 (high); bit i of `high` is the fifth bit
// of weight i. Copies of the bytes cannot alias the output, so that the loops vectorise.
template <bool Fifth>
std::array<int, 32> unpack(const std::byte* from, std::uint32_t high) {
  const auto q = load<Nibbles>(from);
  std::array<int, 32> out;
  for (std::size_t i = 0; i < half_block; ++i) {
    out[i] = q[i] & 15;
    out[i + half_block] = q[i] >> 4;
  }
  if constexpr (Fifth) {
    // Masks, as a shift by i does not vectorise on every processor.
    for (std::size_t i = 0; i < 32; ++i) {
      out[i] |= static_cast<int>((high & fifth_bits[i]) != 0) << 4;
    }
  }
  return out;
}

}  // namespace

// half d, 16 bytes of nibbles; w = d * (q - 8).
void Q4Zero::expand(const std::byte* from, float* to) {
  const float scale = half_at(from);
  const auto q = unpack<false>(from + 2, 0);
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(q[i] - 8);
}

// half d, half m, nibbles; w = d * q + m.
void Q4One::expand(const std::byte* from, float* to) {
  const float scale = half_at(from);
  const float offset = half_at(from + 2);
  const auto q = unpack<false>(from + 4, 0);
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(q[i]) + offset;
}

// half d, 32 fifth bits, nibbles; w = d * (q - 16).
void Q5Zero::expand(const std::byte* from, float* to) {
  const float scale = half_at(from);
  const auto q = unpack<true>(from + 6, load<std::uint32_t>(from + 2));
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(q[i] - 16);
}

// half d, half m, 32 fifth bits, nibbles; w = d * q + m.
void Q5One::expand(const std::byte* from, float* to) {
  const float scale = half_at(from);
  const float offset = half_at(from + 2);
  const auto q = unpack<true>(from + 8, load<std::uint32_t>(from + 4));
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(q[i]) + offset;
}

// half d, 32 signed bytes q; w = d * q.
void Q8Zero::expand(const std::byte* from, float* to) {
  const float scale = half_at(from);
  const auto q = load<std::array<std::int8_t, elements>>(from + 2);
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(q[i]);
}

float half_power_of_two(std::uint8_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? std::uint32_t{0x00200000} << exponent
                                           : std::uint32_t{exponent - 1U} << 23);
}

float twice_fp4(unsigned nibble) {
  static constexpr std::array<float, 16> doubled = {0, 1,  2,  3,  4,  6,  8,  12,
                                                    0, -1, -2, -3, -4, -6, -8, -12};
  return doubled[nibble];
}

// A power of two with 8 bits of exponent, then nibbles. Half the power is taken and twice the
// number, so that both are exact.
void MxFp4::expand(const std::byte* from, float* to) {
  const float scale = half_power_of_two(load<std::uint8_t>(from));
  const auto q = unpack<false>(from + 1, 0);
  for (std::size_t i = 0; i < elements; ++i) to[i] = scale * twice_fp4(static_cast<unsigned>(q[i]));
}

}  // namespace plumb
