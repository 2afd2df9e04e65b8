// Loops over rows of scores, with the same bits whatever vectors the processor has.
#pragma once

#include <cstdint>
#include <utility>

namespace plumb {

/// The largest of x[0..n), and of `low`.
float largest_of(const float* x, std::int64_t n, float low);
double largest_of(const double* x, std::int64_t n, double low);

/// Takes `by` off each of x[0..n).
void take_off(float* x, std::int64_t n, float by);
void take_off(double* x, std::int64_t n, double by);

/// Sums over i of x[i], and of x[i] y[i]: in the type itself over lanes, in float64 over these.
std::pair<double, double> sums_of(const float* x, const float* y, std::int64_t n);
std::pair<double, double> sums_of(const double* x, const double* y, std::int64_t n);

/// Adds weight times x[0..n) to sum[0..n).
void add_weighted(float* sum, const float* x, std::int64_t n, float weight);
void add_weighted(double* sum, const double* x, std::int64_t n, double weight);

/// The loops above as they are compiled for one kind of processor.
template <typename Real>
struct RowLoops {
  Real (*largest_of)(const Real* x, std::int64_t n, Real low) = nullptr;
  void (*take_off)(Real* x, std::int64_t n, Real by) = nullptr;
  std::pair<double, double> (*sums_of)(const Real* x, const Real* y, std::int64_t n) = nullptr;
  void (*add_weighted)(Real* sum, const Real* x, std::int64_t n, Real weight) = nullptr;
};
/// For any processor. Real is float or double.
template <typename Real>
const RowLoops<Real>& plain_row_loops();
/// For vectors of 256 bits; null where this processor or build has none.
template <typename Real>
const RowLoops<Real>* wide_row_loops();

}  // namespace plumb
