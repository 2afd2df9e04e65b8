// The loops over rows, as compiled for any processor and for wide vectors, against loops that take
// one number at a time.
#include "model/row_loops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace plumb {
namespace {

// Past every row lies this much more, which no loop may read or write.
constexpr std::int64_t fence = 40;
constexpr std::int64_t lanes = 16;

// Equal bits, or both no number.
template <typename Real>
bool same(Real a, Real b) {
  using Bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<Bits>(a) == std::bit_cast<Bits>(b) || (std::isnan(a) && std::isnan(b));
}

// Numbers of [-1, 1) that a generator of 48 bits gives.
template <typename Real>
std::vector<Real> numbers(std::int64_t n, std::uint64_t seed) {
  std::vector<Real> list;
  std::uint64_t state = seed * 2654435761U + 1;
  for (std::int64_t i = 0; i < n; ++i) {
    state = (state * 25214903917U + 11) & ((std::uint64_t{1} << 48) - 1);
    list.push_back(static_cast<Real>(static_cast<double>(state) / 140737488355328.0 - 1.0));
  }
  return list;
}

// What rows of scores can hold: ordinary numbers, hidden keys, infinities, the largest and the
// smallest numbers there are, equal ones, none above the lowest.
constexpr int kinds = 7;
template <typename Real>
std::vector<Real> row_of(int kind, std::int64_t n, std::uint64_t seed) {
  using Limits = std::numeric_limits<Real>;
  std::vector<Real> x = numbers<Real>(n, seed);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool third = (i + seed) % 3 == 0;
    switch (kind) {
      case 1:
        if (2 * i >= x.size()) x[i] = Real(-1e30);
        break;
      case 2:
        if (third) x[i] = -Limits::infinity();
        break;
      case 3: x[i] *= Limits::max(); break;
      case 4: x[i] *= 8 * Limits::denorm_min(); break;
      case 5: x[i] = Real(0.75); break;
      case 6: x[i] = -Limits::max(); break;
      default: x[i] *= Real(20);
    }
  }
  return x;
}

// Rounded to `Real` before anything else is done with it.
template <typename Real>
Real product(Real a, Real b) {
  const volatile Real made = a * b;
  return made;
}

// The sums as the header states them: in `Real` over lanes, what is left over in the first, and
// lanes in float64.
template <typename Real>
std::pair<double, double> sums_by_lane(const Real* x, const Real* y, std::int64_t n) {
  std::pair<double, double> sums = {0.0, 0.0};
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    Real plain = 0;
    Real weighted = 0;
    for (std::int64_t i = lane; i < n; i += lane == 0 && i >= n / lanes * lanes ? 1 : lanes) {
      if (lane > 0 && i >= n / lanes * lanes) break;
      plain += x[i];
      weighted += product(x[i], y[i]);
    }
    sums.first += static_cast<double>(plain);
    sums.second += static_cast<double>(weighted);
  }
  return sums;
}

// How many of the rows each loop gets wrong.
struct Wrong {
  int largest = 0, taken = 0, sums = 0, added = 0, fences = 0;
  bool operator==(const Wrong&) const = default;
};
void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << "largest_of " << wrong.largest << ", take_off " << wrong.taken << ", sums_of "
       << wrong.sums << ", add_weighted " << wrong.added << ", fences " << wrong.fences;
}

template <typename Real>
class Bench {
 public:
  Bench(const RowLoops<Real>& loops, Wrong& wrong) : loops_(loops), wrong_(wrong) {}

  // A row of n numbers that begins so many numbers into its memory, and others beside it.
  void run(int kind, std::int64_t n, std::int64_t start) {
    n_ = n;
    start_ = start;
    const auto seed = static_cast<std::uint64_t>(n * 7 + start);
    x_ = row_of<Real>(kind, n, seed);
    y_ = row_of<Real>(kind == 2 ? 0 : kind, n, seed + 1);
    for (const Real low : {Real(-1e30), Real(0.5)}) find_largest(low);
    for (const Real by : {Real(0.3), Real(-1e30), std::numeric_limits<Real>::max()}) {
      take(by);
      add(by);
    }
    sum();
  }

 private:
  // The numbers between fences that would spoil any result.
  std::vector<Real> fenced(const std::vector<Real>& x, Real around) const {
    std::vector<Real> wide(static_cast<std::size_t>(start_ + n_ + fence), around);
    std::ranges::copy(x, wide.begin() + start_);
    return wide;
  }

  void see(const std::vector<Real>& made, const std::vector<Real>& expected, Real around,
           int& count) {
    bool right = true;
    for (std::int64_t i = 0; i < n_; ++i)
      right = right && same(made[static_cast<std::size_t>(start_ + i)],
                            expected[static_cast<std::size_t>(i)]);
    count += right ? 0 : 1;
    bool whole = std::all_of(made.begin(), made.begin() + start_,
                             [&](Real value) { return same(value, around); });
    whole = whole && std::all_of(made.begin() + start_ + n_, made.end(),
                                 [&](Real value) { return same(value, around); });
    wrong_.fences += whole ? 0 : 1;
  }

  void find_largest(Real low) {
    const std::vector<Real> x = fenced(x_, std::numeric_limits<Real>::infinity());
    Real expected = low;
    for (const Real value : x_) expected = std::max(expected, value);
    // A zero of either sign will do.
    const Real made = loops_.largest_of(x.data() + start_, n_, low);
    wrong_.largest += same(made + Real(0), expected + Real(0)) ? 0 : 1;
  }

  void take(Real by) {
    std::vector<Real> x = fenced(x_, Real(5));
    std::vector<Real> expected = x_;
    for (Real& value : expected) value -= by;
    loops_.take_off(x.data() + start_, n_, by);
    see(x, expected, Real(5), wrong_.taken);
  }

  void sum() {
    const Real none = std::numeric_limits<Real>::quiet_NaN();
    const std::vector<Real> x = fenced(x_, none);
    const std::vector<Real> y = fenced(y_, none);
    const auto made = loops_.sums_of(x.data() + start_, y.data() + start_, n_);
    const auto expected = sums_by_lane(x_.data(), y_.data(), n_);
    const bool right = same(made.first, expected.first) && same(made.second, expected.second);
    wrong_.sums += right ? 0 : 1;
  }

  void add(Real weight) {
    std::vector<Real> sum = fenced(y_, Real(5));
    std::vector<Real> expected = y_;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += product(weight, x_[i]);
    const std::vector<Real> x = fenced(x_, Real(7));
    loops_.add_weighted(sum.data() + start_, x.data() + start_, n_, weight);
    see(sum, expected, Real(5), wrong_.added);
  }

  const RowLoops<Real>& loops_;
  Wrong& wrong_;
  std::int64_t n_ = 0;
  std::int64_t start_ = 0;
  std::vector<Real> x_ = {};
  std::vector<Real> y_ = {};
};

// Rows of every length up to five blocks of lanes, and of some longer ones.
template <typename Real>
Wrong wrong_of(const RowLoops<Real>& loops) {
  Wrong wrong;
  Bench<Real> bench(loops, wrong);
  for (int kind = 0; kind < kinds; ++kind) {
    for (std::int64_t start = 0; start < 3; ++start) {
      for (std::int64_t n = 0; n <= 5 * lanes; ++n) bench.run(kind, n, start);
      for (const std::int64_t n : {255, 256, 1001}) bench.run(kind, n, start);
    }
  }
  return wrong;
}

template <typename Real>
class RowLoopsOf : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(RowLoopsOf, Reals);

TYPED_TEST(RowLoopsOf, AnyProcessorGiveTheBitsThatAreStated) {
  EXPECT_EQ(wrong_of(plain_row_loops<TypeParam>()), Wrong{});
}

// What the processor says of itself to the system.
bool processor_has_wide_vectors() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string word; in >> word;) {
    if (word == "avx2") return true;
  }
  return false;
}

TYPED_TEST(RowLoopsOf, WideVectorsAreUsedWhereThereAreAnyAndGiveTheBitsThatAreStated) {
  const RowLoops<TypeParam>* loops = wide_row_loops<TypeParam>();
  ASSERT_EQ(loops != nullptr, processor_has_wide_vectors());
  if (loops == nullptr) return;
  EXPECT_EQ(wrong_of(*loops), Wrong{});
  EXPECT_NE(loops->sums_of, plain_row_loops<TypeParam>().sums_of);
}

TYPED_TEST(RowLoopsOf, ThoseOfThisProcessorGiveTheBitsThatAreStated) {
  using Real = TypeParam;
  const RowLoops<Real> chosen{
      [](const Real* x, std::int64_t n, Real low) { return largest_of(x, n, low); },
      [](Real* x, std::int64_t n, Real by) { take_off(x, n, by); },
      [](const Real* x, const Real* y, std::int64_t n) { return sums_of(x, y, n); },
      [](Real* sum, const Real* x, std::int64_t n, Real weight) {
        add_weighted(sum, x, n, weight);
      }};
  EXPECT_EQ(wrong_of(chosen), Wrong{});
}

// Lanes of `Real` beside one sum in float64: as near as rounding n / 16 + 16 times allows.
TYPED_TEST(RowLoopsOf, SumsAreThoseOfFloat64) {
  std::vector<const RowLoops<TypeParam>*> all = {&plain_row_loops<TypeParam>()};
  if (wide_row_loops<TypeParam>() != nullptr) all.push_back(wide_row_loops<TypeParam>());
  for (const auto* loops : all) {
    for (const std::int64_t n : {1, 17, 256, 4099}) {
      const auto x = numbers<TypeParam>(n, 3);
      const auto y = numbers<TypeParam>(n, 4);
      long double plain = 0;
      long double weighted = 0;
      long double size = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        plain += static_cast<long double>(x[i]);
        weighted += static_cast<long double>(x[i]) * static_cast<long double>(y[i]);
        size += std::abs(static_cast<long double>(x[i]));
      }
      const auto steps = static_cast<long double>(n / lanes + lanes + 1);
      const long double near = steps * std::numeric_limits<TypeParam>::epsilon() * size;
      const auto made = loops->sums_of(x.data(), y.data(), n);
      EXPECT_LE(std::abs(static_cast<long double>(made.first) - plain), near) << n;
      EXPECT_LE(std::abs(static_cast<long double>(made.second) - weighted), near) << n;
    }
  }
}

// What the first two tests would not let pass: each loop with one fault at a time.
TYPED_TEST(RowLoopsOf, AFaultIsFound) {
  using Real = TypeParam;
  const RowLoops<Real>& right = plain_row_loops<Real>();
  const auto wrong_with = [&](auto change) {
    RowLoops<Real> loops = right;
    change(loops);
    return wrong_of(loops);
  };
  const Wrong no_rest = wrong_with([](RowLoops<Real>& loops) {
    loops.largest_of = [](const Real* x, std::int64_t n, Real low) {
      return plain_row_loops<Real>().largest_of(x, n / lanes * lanes, low);
    };
    loops.take_off = [](Real* x, std::int64_t n, Real by) {
      plain_row_loops<Real>().take_off(x, n / lanes * lanes, by);
    };
    loops.sums_of = [](const Real* x, const Real* y, std::int64_t n) {
      return plain_row_loops<Real>().sums_of(x, y, n / lanes * lanes);
    };
    loops.add_weighted = [](Real* sum, const Real* x, std::int64_t n, Real weight) {
      plain_row_loops<Real>().add_weighted(sum, x, n / lanes * lanes, weight);
    };
  });
  const Wrong past_end = wrong_with([](RowLoops<Real>& loops) {
    loops.largest_of = [](const Real* x, std::int64_t n, Real low) {
      return plain_row_loops<Real>().largest_of(x, n + 1, low);
    };
    loops.take_off = [](Real* x, std::int64_t n, Real by) {
      plain_row_loops<Real>().take_off(x, n + 1, by);
    };
    loops.sums_of = [](const Real* x, const Real* y, std::int64_t n) {
      return plain_row_loops<Real>().sums_of(x, y, n + 1);
    };
    loops.add_weighted = [](Real* sum, const Real* x, std::int64_t n, Real weight) {
      plain_row_loops<Real>().add_weighted(sum, x, n + 1, weight);
    };
  });
  // The last lane lost, the lowest forgotten, a sum in another order, a product not rounded.
  const Wrong subtle = wrong_with([](RowLoops<Real>& loops) {
    loops.largest_of = [](const Real* x, std::int64_t n, Real low) {
      return n == 0 ? low : *std::max_element(x, x + n);
    };
    loops.take_off = [](Real* x, std::int64_t n, Real by) {
      for (std::int64_t i = 0; i < n; ++i)
        if (i % lanes != lanes - 1) x[i] -= by;
    };
    loops.sums_of = [](const Real* x, const Real* y, std::int64_t n) {
      Real plain = 0;
      Real weighted = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        plain += x[i];
        weighted += product(x[i], y[i]);
      }
      return std::pair{static_cast<double>(plain), static_cast<double>(weighted)};
    };
    loops.add_weighted = [](Real* sum, const Real* x, std::int64_t n, Real weight) {
      for (std::int64_t i = 0; i < n; ++i) sum[i] = std::fma(weight, x[i], sum[i]);
    };
  });
  for (const Wrong* wrong : {&no_rest, &past_end, &subtle}) {
    EXPECT_GT(wrong->largest, 0);
    EXPECT_GT(wrong->taken + wrong->fences, 0);
    EXPECT_GT(wrong->sums, 0);
    EXPECT_GT(wrong->added + wrong->fences, 0);
  }
}

}  // namespace
}  // namespace plumb
