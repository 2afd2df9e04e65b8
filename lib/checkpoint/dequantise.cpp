#include "checkpoint/dequantise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <type_traits>

#include "checkpoint/mapped_file.h"
#include "checkpoint/numbers.h"
#include "checkpoint/printable.h"
#include "checkpoint/quantised.h"
#include "plumb/error.h"

namespace plumb {
namespace {

template <class Format, class Out>
void expand_blocks(const std::byte* data, std::int64_t first, std::int64_t count, Out* out) {
  const std::byte* from = data + static_cast<std::size_t>(first) / Format::elements * Format::bytes;
  const std::size_t blocks = static_cast<std::size_t>(count) / Format::elements;
  for (std::size_t b = 0; b < blocks; ++b, from += Format::bytes, out += Format::elements) {
    if constexpr (std::is_same_v<Out, float>) {
      Format::expand(from, out);
    } else {
      std::array<float, Format::elements> values;
      Format::expand(from, values.data());
      std::copy(values.begin(), values.end(), out);
    }
  }
}

// In a byte the lower nibble is the earlier element.
template <class Out>
void expand_pairs(const StoredTensor& tensor, std::int64_t first, std::int64_t count, Out* out) {
  const std::int64_t begin = first / MxFp4::elements;
  const std::int64_t end = begin + count / MxFp4::elements;
  for (std::int64_t block = begin; block < end; ++block) {
    const float scale = half_power_of_two(load<std::uint8_t>(tensor.scales + block));
    const std::byte* from = tensor.data + block * 16;
    for (int i = 0; i < 16; ++i) {
      const auto byte = load<std::uint8_t>(from + i);
      *out++ = scale * twice_fp4(byte & 15U);
      *out++ = scale * twice_fp4(byte >> 4U);
    }
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
    case Storage::q5_0: return expand_blocks<Q5Zero>(data, first, count, out);
    case Storage::q5_1: return expand_blocks<Q5One>(data, first, count, out);
    case Storage::q8_0: return expand_blocks<Q8Zero>(data, first, count, out);
    case Storage::q2_k: return expand_blocks<Q2K>(data, first, count, out);
    case Storage::q3_k: return expand_blocks<Q3K>(data, first, count, out);
    case Storage::q4_k: return expand_blocks<Q4K>(data, first, count, out);
    case Storage::q5_k: return expand_blocks<Q5K>(data, first, count, out);
    case Storage::q6_k: return expand_blocks<Q6K>(data, first, count, out);
    case Storage::q8_k: return expand_blocks<Q8K>(data, first, count, out);
    case Storage::mxfp4: return expand_blocks<MxFp4>(data, first, count, out);
    case Storage::mxfp4_pair: return expand_pairs(tensor, first, count, out);
    case Storage::other: break;
  }
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{}: tensor {} is stored as {}, which plumb does not read; it reads F64, "
                  "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q8_K and MXFP4",
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
