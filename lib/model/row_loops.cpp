#include "model/row_loops.h"

// Each loop is compiled twice, for any processor and for one with vectors of 256 bits. Sums are
// taken over a fixed number of lanes and products are rounded before they are added, so that both
// give the same bits.
#if defined(__x86_64__) && defined(__GNUC__)
#define PLUMB_WIDE __attribute__((target("avx2")))
#define PLUMB_HAS_WIDE 1
#else
#define PLUMB_WIDE
#define PLUMB_HAS_WIDE 0
#endif
#define PLUMB_INLINE __attribute__((always_inline)) inline

namespace plumb {
namespace {

constexpr std::int64_t lanes = 16;

bool has_wide_vectors() {
#if PLUMB_HAS_WIDE
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

template <typename Real>
PLUMB_INLINE Real largest_in(const Real* x, std::int64_t n, Real low) {
  Real lane[lanes];
  for (std::int64_t j = 0; j < lanes; ++j) lane[j] = low;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  }
  for (; i < n; ++i) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  Real most = lane[0];
  for (std::int64_t j = 1; j < lanes; ++j) most = lane[j] > most ? lane[j] : most;
  return most;
}

template <typename Real>
PLUMB_INLINE void take(Real* x, std::int64_t n, Real by) {
  for (std::int64_t i = 0; i < n; ++i) x[i] -= by;
}

template <typename Real>
PLUMB_INLINE std::pair<double, double> sum_up(const Real* x, const Real* y, std::int64_t n) {
  Real plain[lanes] = {};
  Real weighted[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j) {
      plain[j] += x[i + j];
      weighted[j] += x[i + j] * y[i + j];
    }
  }
  for (; i < n; ++i) {
    plain[0] += x[i];
    weighted[0] += x[i] * y[i];
  }
  double a = 0.0;
  double b = 0.0;
  for (std::int64_t j = 0; j < lanes; ++j) {
    a += static_cast<double>(plain[j]);
    b += static_cast<double>(weighted[j]);
  }
  return {a, b};
}

template <typename Real>
PLUMB_INLINE void add(Real* sum, const Real* x, std::int64_t n, Real weight) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += weight * x[i];
}

template <typename Real>
PLUMB_WIDE Real largest_wide(const Real* x, std::int64_t n, Real low) {
  return largest_in(x, n, low);
}
template <typename Real>
PLUMB_WIDE void take_wide(Real* x, std::int64_t n, Real by) {
  take(x, n, by);
}
template <typename Real>
PLUMB_WIDE std::pair<double, double> sums_wide(const Real* x, const Real* y, std::int64_t n) {
  return sum_up(x, y, n);
}
template <typename Real>
PLUMB_WIDE void add_wide(Real* sum, const Real* x, std::int64_t n, Real weight) {
  add(sum, x, n, weight);
}

// Those of this processor.
template <typename Real>
const RowLoops<Real>& row_loops() {
  static const RowLoops<Real>* const loops =
      wide_row_loops<Real>() != nullptr ? wide_row_loops<Real>() : &plain_row_loops<Real>();
  return *loops;
}

}  // namespace

template <typename Real>
const RowLoops<Real>& plain_row_loops() {
  static constexpr RowLoops<Real> loops{
      [](const Real* x, std::int64_t n, Real low) { return largest_in(x, n, low); },
      [](Real* x, std::int64_t n, Real by) { take(x, n, by); },
      [](const Real* x, const Real* y, std::int64_t n) { return sum_up(x, y, n); },
      [](Real* sum, const Real* x, std::int64_t n, Real weight) { add(sum, x, n, weight); }};
  return loops;
}

template <typename Real>
const RowLoops<Real>* wide_row_loops() {
  static constexpr RowLoops<Real> loops{largest_wide<Real>, take_wide<Real>, sums_wide<Real>,
                                        add_wide<Real>};
  static const bool there = has_wide_vectors();
  return there ? &loops : nullptr;
}

template const RowLoops<float>& plain_row_loops<float>();
template const RowLoops<double>& plain_row_loops<double>();
template const RowLoops<float>* wide_row_loops<float>();
template const RowLoops<double>* wide_row_loops<double>();

float largest_of(const float* x, std::int64_t n, float low) {
  return row_loops<float>().largest_of(x, n, low);
}
double largest_of(const double* x, std::int64_t n, double low) {
  return row_loops<double>().largest_of(x, n, low);
}
void take_off(float* x, std::int64_t n, float by) { row_loops<float>().take_off(x, n, by); }
void take_off(double* x, std::int64_t n, double by) { row_loops<double>().take_off(x, n, by); }
std::pair<double, double> sums_of(const float* x, const float* y, std::int64_t n) {
  return row_loops<float>().sums_of(x, y, n);
}
std::pair<double, double> sums_of(const double* x, const double* y, std::int64_t n) {
  return row_loops<double>().sums_of(x, y, n);
}
void add_weighted(float* sum, const float* x, std::int64_t n, float weight) {
  row_loops<float>().add_weighted(sum, x, n, weight);
}
void add_weighted(double* sum, const double* x, std::int64_t n, double weight) {
  row_loops<double>().add_weighted(sum, x, n, weight);
}

}  // namespace plumb
