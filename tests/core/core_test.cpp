#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <set>
#include <stdexcept>

#include "core/parallel.h"
#include "core/random.h"
#include "plumb/error.h"
#include "plumb/run.h"

namespace plumb {
namespace {

TEST(Random, FollowsThePublishedSplitmixSequence) {
  // First outputs of splitmix64 from state 1234567, as its authors' reference program prints them.
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317ULL);
  EXPECT_EQ(random.next(), 3203168211198807973ULL);
}

TEST(Random, HasTheMomentsItClaims) {
  Random random(7);
  double sum = 0.0;
  double squares = 0.0;
  double uniform = 0.0;
  constexpr int draws = 100000;
  for (int i = 0; i < draws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
    uniform += random.uniform();
  }
  // Five standard errors of each mean.
  EXPECT_NEAR(sum / draws, 0.0, 5.0 / std::sqrt(draws));
  EXPECT_NEAR(squares / draws, 1.0, 5.0 * std::sqrt(2.0 / draws));
  EXPECT_NEAR(uniform / draws, 0.5, 5.0 * std::sqrt(1.0 / 12.0 / draws));
}

TEST(Random, PermutesAndForks) {
  const auto order = Random(3).permutation(100);
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 100U);
  EXPECT_NE(Random(3).fork(1).next(), Random(3).fork(2).next());
}

TEST(ParallelPieces, RunsEachPieceOnce) {
  for (const int threads : {1, 2, 5}) {
    std::vector<std::atomic<int>> seen(37);
    parallel_pieces(37, threads,
                    [&](std::int64_t piece) { ++seen[static_cast<std::size_t>(piece)]; });
    for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
  }
}

TEST(ParallelPieces, ALonePieceSharesItsWorkAndItsExceptions) {
  std::atomic<int> sum{0};
  parallel_pieces(1, 2, [&](std::int64_t) {
    share(100, [&](std::int64_t i) { sum += static_cast<int>(i); });
    EXPECT_THROW(share(4,
                       [](std::int64_t i) {
                         if (i == 2) throw std::runtime_error("stop");
                       }),
                 std::runtime_error);
  });
  EXPECT_EQ(sum, 4950);
}

TEST(ParallelPieces, PassesTheExceptionOn) {
  const auto work = [](std::int64_t piece) {
    if (piece == 11) throw Error(ErrorKind::bad_argument, "piece 11");
  };
  EXPECT_THROW(parallel_pieces(20, 3, work), Error);
  EXPECT_THROW(parallel_pieces(20, 1, work), Error);
}

TEST(Tokens, ArePaddedOnTheRight) {
  const Tokens tokens = make_tokens({{5, 6, 7}, {8}});
  EXPECT_TRUE(at::equal(tokens.ids, at::tensor({5, 6, 7, 8, 0, 0}, at::kLong).view({2, 3})));
  EXPECT_TRUE(at::equal(tokens.lengths, at::tensor({3, 1}, at::kLong)));
  EXPECT_FALSE(make_tokens({{1, 2}, {3, 4}}).lengths.defined());
  EXPECT_THROW(make_tokens({}), Error);
  EXPECT_THROW(make_tokens({{1}, {}}), Error);
}

TEST(Cache, NamesWhatItHolds) {
  Cache cache;
  cache.put({Part::z, 3}, "", at::zeros({1}));
  EXPECT_NE(cache.find({Part::z, 3}), nullptr);
  EXPECT_EQ(cache.find({Part::z, 4}), nullptr);
  EXPECT_EQ(cache.find({Part::z, 3}, "norm"), nullptr);
  try {
    cache.at({Part::q, 1});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_recorded);
    EXPECT_NE(std::string(error.what()).find("L3.z"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace plumb
