// Sums of numbers in float16 and bfloat16 are taken in float32.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

/// float16 or bfloat16: too narrow to sum in.
inline bool is_narrow(at::ScalarType type) { return type == at::kHalf || type == at::kBFloat16; }

/// What sums of the type are taken in: float32 for the narrow ones, else the type itself.
inline at::ScalarType sum_type(at::ScalarType type) { return is_narrow(type) ? at::kFloat : type; }

/// The tensor in the type of its sums; itself where that is its own.
inline at::Tensor widened(const at::Tensor& x) {
  return is_narrow(x.scalar_type()) ? x.to(at::kFloat) : x;
}

}  // namespace plumb
