// The file that a long run of trials writes, and the bounds of its tables.
#include "support/planted_records.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "plumb/error.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

TrialRecord record(std::uint64_t seed) {
  TrialRecord one{.kind = "positional", .seed = seed, .model = "a model", .noise = 0.003};
  one.score.verdict = "positional";
  one.score.verdict_right = true;
  one.score.nodes = one.score.nodes_found = 3;
  one.score.edges = 3;
  one.score.edges_found = 2;
  one.score.missed = {"edge a0->m0"};
  one.score.unwired = {
      {.what = "m0->m1", .claimed = 0.03, .effect = {0.025, 0.02, 0.03}, .ruling = Ruling::real}};
  one.cpu_seconds = 1.5;
  return one;
}

TEST(PlantedRecords, ComeBackAsTheyWereWritten) {
  const auto file = scratch_dir() / "trials.jsonl";
  EXPECT_TRUE(read_records(file).empty());
  append_record(file, record(1));
  append_record(file, record(2));
  const auto back = read_records(file);
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(to_line(back[1]), to_line(record(2)));
}

TEST(PlantedRecords, AStoppedRunGoesOnBehindItsLastWholeLine) {
  const auto file = scratch_dir() / "trials.jsonl";
  append_record(file, record(1));
  std::ofstream(file, std::ios::app) << to_line(record(2)).substr(0, 40);
  EXPECT_EQ(read_records(file).size(), 1U);
  append_record(file, record(2));
  const auto back = read_records(file);
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(back[1].seed, 2U);
  std::ofstream(file, std::ios::app) << "{}\n";
  EXPECT_THROW(read_records(file), Error);
}

TEST(PlantedRecords, TablesCountFoundMissedAndUnwired) {
  const std::string text = tables({record(1), record(2)});
  EXPECT_NE(text.find("| positional | 2 | 2/2 | - | 6/6 | 4/6 |"), std::string::npos) << text;
  EXPECT_NE(text.find("positional missed: edge a0->m0 [a model]"), std::string::npos) << text;
}

// The closed forms: no success of n, all of n, and the one of Clopper and Pearson's own example.
TEST(PlantedRecords, BoundsAreExact) {
  constexpr double close = 1e-9;
  EXPECT_NEAR(exact_high(0, 300), 1.0 - std::pow(0.025, 1.0 / 300), close);
  EXPECT_NEAR(exact_low(300, 300), std::pow(0.025, 1.0 / 300), close);
  EXPECT_EQ(exact_low(0, 10), 0.0);
  EXPECT_EQ(exact_high(10, 10), 1.0);
  EXPECT_NEAR(exact_low(3, 10), 0.0667395, 1e-6);
  EXPECT_NEAR(exact_high(3, 10), 0.6524529, 1e-6);
}

}  // namespace
}  // namespace plumb::test
