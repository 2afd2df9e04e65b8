// Rotary position embedding in the half-split layout.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/config.h"

namespace plumb {

/// cos and sin of the rotation angles, each [T, 1, dims / 2].
struct RopeTable {
  at::Tensor cos = {};
  at::Tensor sin = {};
  at::Tensor growth = {};  ///< [T, 1, 1] factor on queries that are not rotated; undefined = 1
};

/// Tables for these position ids, computed in float64 and rounded once to the type that `options`
/// sum in.
/// Scaling as the reference implementations define it: linear divides positions, dynamic raises the
/// base when the sequence is longer than the original context, llama3 and yarn divide the slow
/// frequencies (arXiv:2309.00071 for yarn), longrope divides each frequency by a factor of its own,
/// one of two lists by the length of the sequence.
RopeTable make_rope_table(const Rope& rope, const std::vector<std::int64_t>& positions,
                          const at::TensorOptions& options);

/// Rotates the first `dims` channels of x [B, T, heads, d_head]; the result is of x's type.
at::Tensor rotate(const at::Tensor& x, const RopeTable& table, int dims);

}  // namespace plumb
