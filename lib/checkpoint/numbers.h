// Stored numbers, little-endian, read as they lie: aligned or not.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace plumb {

static_assert(std::endian::native == std::endian::little, "stored numbers are copied as they are");

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// IEEE half to float, exactly, NaN payloads kept. Without a branch, so that loops over it
/// vectorise; subnormals go through an integer, so that the processor's flush-to-zero mode cannot
/// touch them.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
  const std::uint32_t exponent = (std::uint32_t{half} >> 10) & 0x1fU;
  const std::uint32_t fraction = half & 0x3ffU;
  const float small = static_cast<float>(static_cast<std::int32_t>(fraction)) * 0x1p-24F;
  // 15 to 127, and 31 to 255.
  const std::uint32_t rebased = exponent + 112U + 112U * std::uint32_t{exponent == 0x1f};
  const std::uint32_t subnormal = 0U - std::uint32_t{exponent == 0};
  return std::bit_cast<float>(sign | (subnormal & std::bit_cast<std::uint32_t>(small)) |
                              (~subnormal & (rebased << 23 | fraction << 13)));
}

inline float half_at(const std::byte* bytes) { return half_to_float(load<std::uint16_t>(bytes)); }

inline float bfloat_at(const std::byte* bytes) {
  return std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(bytes)} << 16);
}

}  // namespace plumb
