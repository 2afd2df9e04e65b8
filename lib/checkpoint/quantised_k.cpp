// K-quants: blocks of 256 weights in groups of 16 or 32, whose scales (and offsets) are small
// integers times the block's own. Below, `group` is the run of weights that share a scale.
#include <array>
#include <cstdint>

#include "checkpoint/numbers.h"
#include "checkpoint/quantised.h"

namespace plumb {
namespace {

// Copies of the bytes cannot alias the output, so that the loops over them vectorise.
template <std::size_t N>
using Bytes = std::array<std::uint8_t, N>;

/// Six-bit scales and offsets of eight groups, as Q4_K and Q5_K pack them into 12 bytes: the first
/// four of each whole in the low bits of bytes 0-3 and 4-7; the last four with their low nibbles in
/// bytes 8-11 and their upper two bits on top of the first eight bytes.
struct Scales {
  std::array<float, 8> scale;
  std::array<float, 8> offset;
};

Scales unpack_scales(const std::byte* from, float d, float d_min) {
  const auto packed = load<Bytes<12>>(from);
  Scales out;
  for (std::size_t j = 0; j < 4; ++j) {
    const unsigned low = packed[j];
    const unsigned middle = packed[j + 4];
    const unsigned top = packed[j + 8];
    out.scale[j] = d * static_cast<float>(low & 63U);
    out.offset[j] = d_min * static_cast<float>(middle & 63U);
    out.scale[j + 4] = d * static_cast<float>((top & 15U) | (low >> 6) << 4);
    out.offset[j + 4] = d_min * static_cast<float>(top >> 4 | (middle >> 6) << 4);
  }
  return out;
}

}  // namespace

// 16 bytes: scale (low nibble) and offset (high) of each group of 16; 64 bytes q; half d, half m.
// Each half of 128 weights has 32 bytes q, whose bits 2i and 2i + 1 are its i-th 32 weights.
// w = (d * scale) * q - (m * offset).
void Q2K::expand(const std::byte* from, float* to) {
  const auto packed = load<Bytes<16>>(from);
  const auto q = load<Bytes<64>>(from + 16);
  const float d = half_at(from + 80);
  const float d_min = half_at(from + 82);
  for (std::size_t group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(packed[group] & 15);
    const float offset = d_min * static_cast<float>(packed[group] >> 4);
    const std::uint8_t* bits = q.data() + group / 8 * 32 + group % 2 * 16;
    const unsigned shift = static_cast<unsigned>(group % 8 / 2) * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      to[group * 16 + i] = scale * static_cast<float>(bits[i] >> shift & 3) - offset;
    }
  }
}

// 32 bytes of third bits, bit i of them for the i-th 32 weights; 64 bytes q as above; 12 bytes of
// six-bit scales of 16 groups: nibbles, then four bytes of upper bits; half d.
// w = (d * (scale - 32)) * (q - (third bit ? 0 : 4)).
void Q3K::expand(const std::byte* from, float* to) {
  const auto third = load<Bytes<32>>(from);
  const auto q = load<Bytes<64>>(from + 32);
  const auto packed = load<Bytes<12>>(from + 96);
  const float d = half_at(from + 108);
  for (std::size_t group = 0; group < 16; ++group) {
    const unsigned low = packed[group % 8] >> (group < 8 ? 0U : 4U) & 15U;
    const unsigned high = packed[8 + group % 4] >> group / 4 * 2 & 3U;
    const float scale = d * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    const std::uint8_t* bits = q.data() + group / 8 * 32 + group % 2 * 16;
    const std::uint8_t* mask = third.data() + group % 2 * 16;
    const unsigned shift = static_cast<unsigned>(group % 8 / 2) * 2;
    const unsigned bit = static_cast<unsigned>(group / 2);
    for (std::size_t i = 0; i < 16; ++i) {
      const int value = (bits[i] >> shift & 3) - 4 + (mask[i] >> bit & 1) * 4;
      to[group * 16 + i] = scale * static_cast<float>(value);
    }
  }
}

// half d, half m, 12 bytes of scales, 128 bytes q: each 32 of them hold 32 weights in their low and
// the next 32 in their high nibbles. w = (d * scale) * q - (m * offset).
void Q4K::expand(const std::byte* from, float* to) {
  const Scales scales = unpack_scales(from + 4, half_at(from), half_at(from + 2));
  const auto q = load<Bytes<128>>(from + 16);
  for (std::size_t pair = 0; pair < 4; ++pair) {
    const std::uint8_t* bits = q.data() + pair * 32;
    float* out = to + pair * 64;
    const float low = scales.scale[2 * pair];
    const float low_offset = scales.offset[2 * pair];
    const float high = scales.scale[2 * pair + 1];
    const float high_offset = scales.offset[2 * pair + 1];
    for (std::size_t i = 0; i < 32; ++i) {
      out[i] = low * static_cast<float>(bits[i] & 15) - low_offset;
    }
    for (std::size_t i = 0; i < 32; ++i) {
      out[32 + i] = high * static_cast<float>(bits[i] >> 4) - high_offset;
    }
  }
}

// As Q4_K, with 32 bytes of fifth bits before q: bit i of them for the i-th 32 weights.
void Q5K::expand(const std::byte* from, float* to) {
  const Scales scales = unpack_scales(from + 4, half_at(from), half_at(from + 2));
  const auto fifth = load<Bytes<32>>(from + 16);
  const auto q = load<Bytes<128>>(from + 48);
  for (std::size_t group = 0; group < 8; ++group) {
    const std::uint8_t* bits = q.data() + group / 2 * 32;
    const unsigned shift = group % 2 == 0 ? 0U : 4U;
    const unsigned bit = static_cast<unsigned>(group);
    const float scale = scales.scale[group];
    const float offset = scales.offset[group];
    for (std::size_t i = 0; i < 32; ++i) {
      const int value = (bits[i] >> shift & 15) | (fifth[i] >> bit & 1) << 4;
      to[group * 32 + i] = scale * static_cast<float>(value) - offset;
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales of 16 weights, half d.
// Each half of 128 weights has 64 bytes of nibbles: low ones for its first 64 weights, high ones
// for the rest; and 32 bytes whose bits 2i and 2i + 1 are of its i-th 32 weights.
// w = (d * scale) * (q - 32).
void Q6K::expand(const std::byte* from, float* to) {
  const auto nibbles = load<Bytes<128>>(from);
  const auto upper = load<Bytes<64>>(from + 128);
  const auto scales = load<std::array<std::int8_t, 16>>(from + 192);
  const float d = half_at(from + 208);
  for (std::size_t run = 0; run < 8; ++run) {  // of 32 weights, two groups
    const std::uint8_t* low = nibbles.data() + run / 4 * 64 + run % 2 * 32;
    const std::uint8_t* high = upper.data() + run / 4 * 32;
    const unsigned low_shift = run % 4 < 2 ? 0U : 4U;
    const unsigned high_shift = static_cast<unsigned>(run % 4) * 2;
    for (std::size_t group = 0; group < 2; ++group) {
      const float scale = d * static_cast<float>(scales[2 * run + group]);
      for (std::size_t i = group * 16; i < group * 16 + 16; ++i) {
        const int value = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
        to[run * 32 + i] = scale * static_cast<float>(value - 32);
      }
    }
  }
}

// float d, 256 signed bytes q, and sums of theirs that only dot products use. w = d * q.
void Q8K::expand(const std::byte* from, float* to) {
  const auto d = load<float>(from);
  const auto q = load<std::array<std::int8_t, elements>>(from + 4);
  for (std::size_t i = 0; i < elements; ++i) to[i] = d * static_cast<float>(q[i]);
}

}  // namespace plumb
