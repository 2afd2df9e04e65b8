#include "checkpoint/dequantise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Stored numbers are little-endian and copied as they are.
static_assert(std::endian::native == std::endian::little);

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// IEEE half to float, exactly. Subnormals go through an integer, so that the processor's
/// flush-to-zero mode cannot touch them.
float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fU;
  const std::uint32_t fraction = half & 0x3ffU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t widened = exponent == 0x1f ? 0xffU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

float half_at(const std::byte* bytes) { return half_to_float(load<std::uint16_t>(bytes)); }

float bfloat_at(const std::byte* bytes) {
  return std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(bytes)} << 16);
}

constexpr std::size_t block = 32;
constexpr std::size_t nibble_bytes = block / 2;

// Block of Q4_0: half d, 16 bytes q; byte i holds weight i (low nibble) and i + 16 (high nibble);
// w = d * (q - 8).
struct Q4Zero {
  static constexpr std::size_t bytes = 2 + nibble_bytes;
  static void expand(const std::byte* from, float* to) {
    const float scale = half_at(from);
    for (std::size_t i = 0; i < nibble_bytes; ++i) {
      const auto q = std::to_integer<int>(from[2 + i]);
      to[i] = scale * static_cast<float>((q & 15) - 8);
      to[i + nibble_bytes] = scale * static_cast<float>((q >> 4) - 8);
    }
  }
};

// Block of Q4_1: half d, half m, 16 bytes q as above; w = d * q + m.
struct Q4One {
  static constexpr std::size_t bytes = 4 + nibble_bytes;
  static void expand(const std::byte* from, float* to) {
    const float scale = half_at(from);
    const float offset = half_at(from + 2);
    for (std::size_t i = 0; i < nibble_bytes; ++i) {
      const auto q = std::to_integer<int>(from[4 + i]);
      to[i] = scale * static_cast<float>(q & 15) + offset;
      to[i + nibble_bytes] = scale * static_cast<float>(q >> 4) + offset;
    }
  }
};

// Block of Q8_0: half d, 32 signed bytes q; w = d * q.
struct Q8Zero {
  static constexpr std::size_t bytes = 2 + block;
  static void expand(const std::byte* from, float* to) {
    const float scale = half_at(from);
    for (std::size_t i = 0; i < block; ++i) {
      to[i] = scale * static_cast<float>(load<std::int8_t>(from + 2 + i));
    }
  }
};

template <class Format, class Out>
void expand_blocks(const std::byte* data, std::int64_t first, std::int64_t count, Out* out) {
  const std::byte* from = data + static_cast<std::size_t>(first) / block * Format::bytes;
  const auto blocks = static_cast<std::size_t>(count) / block;
  std::array<float, block> values;
  for (std::size_t b = 0; b < blocks; ++b, from += Format::bytes, out += block) {
    Format::expand(from, values.data());
    std::copy(values.begin(), values.end(), out);
  }
}

template <std::size_t Bytes, class Out, class Read>
void convert(const std::byte* data, std::int64_t first, std::int64_t count, Out* out, Read read) {
  const std::byte* from = data + static_cast<std::size_t>(first) * Bytes;
  for (std::int64_t i = 0; i < count; ++i, from += Bytes) out[i] = static_cast<Out>(read(from));
}

template <class Out>
void widen_to(const StoredTensor& tensor, std::int64_t first, std::int64_t count, Out* out) {
  const std::byte* data = tensor.data;
  switch (tensor.storage) {
    case Storage::f64: return convert<8>(data, first, count, out, load<double>);
    case Storage::f32: return convert<4>(data, first, count, out, load<float>);
    case Storage::f16: return convert<2>(data, first, count, out, half_at);
    case Storage::bf16: return convert<2>(data, first, count, out, bfloat_at);
    case Storage::q4_0: return expand_blocks<Q4Zero>(data, first, count, out);
    case Storage::q4_1: return expand_blocks<Q4One>(data, first, count, out);
    case Storage::q8_0: return expand_blocks<Q8Zero>(data, first, count, out);
    case Storage::other: break;
  }
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{}: tensor {} is stored as {}, which plumb does not read; it reads F64, "
                  "F32, F16, BF16, Q4_0, Q4_1 and Q8_0",
                  tensor.file->path().string(), printable(tensor.info.name), tensor.info.dtype));
}

/// Whether any value has all exponent bits set; without a branch in the loop, which vectorises.
template <class Bits, Bits exponent, class Value>
std::int64_t find_non_finite(const Value* values, std::int64_t count) {
  constexpr std::int64_t chunk = 4096;
  for (std::int64_t start = 0; start < count; start += chunk) {
    const std::int64_t end = std::min(count, start + chunk);
    Bits found = 0;
    for (std::int64_t i = start; i < end; ++i) {
      found |= static_cast<Bits>((std::bit_cast<Bits>(values[i]) & exponent) == exponent);
    }
    if (found == 0) continue;
    for (std::int64_t i = start; i < end; ++i) {
      if (!std::isfinite(values[i])) return i;
    }
  }
  return -1;
}

}  // namespace

void widen(const StoredTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  widen_to(tensor, first, count, out);
}

void widen(const StoredTensor& tensor, std::int64_t first, std::int64_t count, double* out) {
  widen_to(tensor, first, count, out);
}

std::int64_t first_non_finite(const float* values, std::int64_t count) {
  return find_non_finite<std::uint32_t, 0x7f800000U>(values, count);
}

std::int64_t first_non_finite(const double* values, std::int64_t count) {
  return find_non_finite<std::uint64_t, 0x7ff0000000000000U>(values, count);
}

}  // namespace plumb
