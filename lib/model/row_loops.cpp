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

bool wide() {
#if PLUMB_HAS_WIDE
  static const bool there = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
  }();
  return there;
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

}  // namespace

float largest_of(const float* x, std::int64_t n, float low) {
  return wide() ? largest_wide(x, n, low) : largest_in(x, n, low);
}
double largest_of(const double* x, std::int64_t n, double low) {
  return wide() ? largest_wide(x, n, low) : largest_in(x, n, low);
}
void take_off(float* x, std::int64_t n, float by) {
  return wide() ? take_wide(x, n, by) : take(x, n, by);
}
void take_off(double* x, std::int64_t n, double by) {
  return wide() ? take_wide(x, n, by) : take(x, n, by);
}
std::pair<double, double> sums_of(const float* x, const float* y, std::int64_t n) {
  return wide() ? sums_wide(x, y, n) : sum_up(x, y, n);
}
std::pair<double, double> sums_of(const double* x, const double* y, std::int64_t n) {
  return wide() ? sums_wide(x, y, n) : sum_up(x, y, n);
}
void add_weighted(float* sum, const float* x, std::int64_t n, float weight) {
  return wide() ? add_wide(sum, x, n, weight) : add(sum, x, n, weight);
}
void add_weighted(double* sum, const double* x, std::int64_t n, double weight) {
  return wide() ? add_wide(sum, x, n, weight) : add(sum, x, n, weight);
}

}  // namespace plumb
