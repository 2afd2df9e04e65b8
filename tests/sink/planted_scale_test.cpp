// A planted model of every kind at random sizes: no wrong verdict, no wave made up. tests/bench/
// planted.sh counts the same over many seeds.
#include <gtest/gtest.h>

#include "support/planted_trial.h"

namespace plumb::test {
namespace {

class PlantedKind : public testing::TestWithParam<std::string> {};

TEST_P(PlantedKind, IsReadRight) {
  const PlantOptions options = draw_trial(GetParam(), 0);
  SCOPED_TRACE(describe(options));
  const Planted planted = plant(options);
  const TrialScore score = score_trial(planted, locate_trial(planted));
  for (const auto& fault : score.faults) SCOPED_TRACE(fault);
  EXPECT_TRUE(score.verdict_right);
  EXPECT_EQ(score.waves_found, score.waves);
  EXPECT_EQ(score.false_waves, 0);
  EXPECT_EQ(score.nodes_found, score.nodes);
  EXPECT_EQ(score.extras_found, score.extras);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PlantedKind, testing::ValuesIn(trial_kinds()));

}  // namespace
}  // namespace plumb::test
