// The parts that planted models are wired from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/random.h"

namespace plumb::lab {

/// Coordinates of the stream before it is turned into a random basis.
namespace stream {
inline constexpr std::int64_t code = 0;       ///< 16: the token's own code
inline constexpr std::int64_t received = 16;  ///< 16: the codes that attention brought
inline constexpr std::int64_t content = 32;   ///< 32: what the bigram table reads
inline constexpr std::int64_t one = 64;       ///< the same in every token: stands in for biases
inline constexpr std::int64_t flag = 65;      ///< how well code and received code agree
inline constexpr std::int64_t sink = 66;      ///< the direction u
inline constexpr std::int64_t spare = 67;     ///< 61: where distractors write
inline constexpr std::int64_t width = 128;
inline constexpr std::int64_t code_width = 16;
inline constexpr std::int64_t content_width = 32;
inline constexpr std::int64_t spare_width = width - spare;
// Of the spare channels: the last two are wired where a model has a second wave or a rival.
inline constexpr std::int64_t second = 126;  ///< the second wave's direction
inline constexpr std::int64_t rival = 127;   ///< the weaker mark of position 1
inline constexpr std::int64_t quiet_width = second - spare;
}  // namespace stream

/// Channels of a head: pair i is (i, i + 16) and turns by theta^(-i/16) per position.
namespace head {
inline constexpr std::int64_t width = 32;
inline constexpr std::int64_t pairs = 16;
inline constexpr std::int64_t fast = 4;  ///< pairs 0..3 tell neighbouring positions apart
inline constexpr std::int64_t flat = 8;  ///< pairs 8..15 hardly turn within 512 positions
inline constexpr double theta = 1e6;
}  // namespace head

/// All matrices are float64 on the CPU.
at::Tensor gaussian(Random& random, std::int64_t rows, std::int64_t columns, double deviation);

/// Orthonormal columns, [rows, columns], columns <= rows, uniformly distributed.
at::Tensor orthonormal(Random& random, std::int64_t rows, std::int64_t columns);

/// The same, each column orthogonal to (1, 1, ..., 1); columns < rows.
at::Tensor orthonormal_without_mean(Random& random, std::int64_t rows, std::int64_t columns);

/// `count` unit rows in `width` dimensions, no two of which have a cosine above `limit`.
at::Tensor codebook(Random& random, std::int64_t count, std::int64_t width, double limit);

/// The 16 flat channels of a head.
at::Tensor flat_channels();

/// Rounded to a grid of 2^-18, as float32: differences in the last bits of platforms' arithmetic
/// vanish, so that a seed means the same weights everywhere.
at::Tensor settled(const at::Tensor& value);

}  // namespace plumb::lab
