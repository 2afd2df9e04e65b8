#include "model/row_loops.h"

#include <cstring>

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

// A register of so many bytes. The lanes are as many of them as it takes; written as an array of
// numbers, compilers shuffle them from place to place.
template <typename Real, int bytes>
struct Register;
template <>
struct Register<float, 16> {
  typedef float Type __attribute__((vector_size(16)));
};
template <>
struct Register<float, 32> {
  typedef float Type __attribute__((vector_size(32)));
};
template <>
struct Register<double, 16> {
  typedef double Type __attribute__((vector_size(16)));
};
template <>
struct Register<double, 32> {
  typedef double Type __attribute__((vector_size(32)));
};

template <typename Vector, typename Real>
PLUMB_INLINE void load(Vector& to, const Real* from) {
  std::memcpy(&to, from, sizeof to);
}

template <int bytes, typename Real>
PLUMB_INLINE Real largest_in(const Real* x, std::int64_t n, Real low) {
  using Vector = typename Register<Real, bytes>::Type;
  constexpr std::int64_t width = bytes / sizeof(Real);
  Vector most[lanes / width];
  for (Vector& one : most) one = low - Vector{};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes / width; ++j) {
      Vector here;
      load(here, x + i + j * width);
      most[j] = here > most[j] ? here : most[j];
    }
  }
  Real largest = low;
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (const Vector& one : most) {
    for (std::int64_t j = 0; j < width; ++j) largest = one[j] > largest ? one[j] : largest;
  }
  return largest;
}

template <typename Real>
PLUMB_INLINE void take(Real* x, std::int64_t n, Real by) {
  for (std::int64_t i = 0; i < n; ++i) x[i] -= by;
}

template <int bytes, typename Real>
PLUMB_INLINE std::pair<double, double> sum_up(const Real* x, const Real* y, std::int64_t n) {
  using Vector = typename Register<Real, bytes>::Type;
  constexpr std::int64_t width = bytes / sizeof(Real);
  Vector plain[lanes / width] = {};
  Vector weighted[lanes / width] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes / width; ++j) {
      Vector a;
      Vector b;
      load(a, x + i + j * width);
      load(b, y + i + j * width);
      plain[j] += a;
      weighted[j] += a * b;
    }
  }
  for (; i < n; ++i) {
    plain[0][0] += x[i];
    weighted[0][0] += x[i] * y[i];
  }
  double a = 0.0;
  double b = 0.0;
  for (std::int64_t j = 0; j < lanes; ++j) {
    a += static_cast<double>(plain[j / width][j % width]);
    b += static_cast<double>(weighted[j / width][j % width]);
  }
  return {a, b};
}

template <typename Real>
PLUMB_INLINE void add(Real* sum, const Real* x, std::int64_t n, Real weight) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += weight * x[i];
}

template <typename Real>
PLUMB_WIDE Real largest_wide(const Real* x, std::int64_t n, Real low) {
  return largest_in<32>(x, n, low);
}
template <typename Real>
PLUMB_WIDE void take_wide(Real* x, std::int64_t n, Real by) {
  take(x, n, by);
}
template <typename Real>
PLUMB_WIDE std::pair<double, double> sums_wide(const Real* x, const Real* y, std::int64_t n) {
  return sum_up<32>(x, y, n);
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
      [](const Real* x, std::int64_t n, Real low) { return largest_in<16>(x, n, low); },
      [](Real* x, std::int64_t n, Real by) { take(x, n, by); },
      [](const Real* x, const Real* y, std::int64_t n) { return sum_up<16>(x, y, n); },
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
