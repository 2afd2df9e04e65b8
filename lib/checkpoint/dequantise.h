// Stored numbers to float32 and float64.
#pragma once

#include <cstdint>

#include "checkpoint/stored.h"

namespace plumb {

/// Writes elements [first, first + count) of the row-major tensor to `out`. `first` and `count` are
/// multiples of `block_elements`. Half types are widened exactly; quantised types are computed in
/// float32, as their format defines. Throws unsupported for Storage::other.
void widen(const StoredTensor& tensor, std::int64_t first, std::int64_t count, float* out);
void widen(const StoredTensor& tensor, std::int64_t first, std::int64_t count, double* out);

/// Index of the first NaN or infinity, -1 when there is none.
std::int64_t first_non_finite(const float* values, std::int64_t count);
std::int64_t first_non_finite(const double* values, std::int64_t count);

}  // namespace plumb
