// A planted model of every kind at random sizes: right verdict, all that was planted found, nothing
// made up. tests/bench/planted.sh counts the same over many seeds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "support/planted_p0.h"
#include "support/planted_score.h"
#include "support/planted_trial.h"

namespace plumb::test {
namespace {

constexpr double rounding = 1e-4;  // of float32 writes against float64 ones, over the largest

// Seeds of shallow models: some 40 CPU seconds for all kinds.
class PlantedKind : public testing::TestWithParam<std::tuple<std::string, int>> {};
INSTANTIATE_TEST_SUITE_P(Kinds, PlantedKind,
                         testing::Combine(testing::ValuesIn(trial_kinds()), testing::Values(1, 3)));

TEST_P(PlantedKind, IsReadRight) {
  const auto& [kind, seed] = GetParam();
  const PlantOptions options = draw_trial(kind, static_cast<std::uint64_t>(seed));
  SCOPED_TRACE(describe(options));
  const Planted planted = plant(options);
  const TrialScore score = score_trial(planted, locate_trial(planted));
  EXPECT_TRUE(score.verdict_right);
  EXPECT_EQ(score.missed, std::vector<std::string>{});
  EXPECT_EQ(score.made_up, std::vector<std::string>{});
  EXPECT_EQ(score.false_waves, 0);
}

// The judge of what nobody wired: its arithmetic is the model's, it confirms what was planted and
// turns down what was not.
TEST(PlantedJudge, ConfirmsWhatWasPlantedAndNothingElse) {
  for (const auto* kind : {"positional", "mixture"}) {
    const Planted planted = plant(draw_trial(kind, 1));
    const Model model = to_model(planted, {.threads = 1});
    const PlantedP0 system(planted, model, trial_length);
    SCOPED_TRACE(describe(planted.options));
    EXPECT_LT(system.apart(), rounding);
    const P0Report report = locate_trial(planted);
    ASSERT_EQ(report.waves.size(), 1U);
    const WaveReport& wave = report.waves.front();
    EXPECT_TRUE(at::equal(system.alone(system.ids().select(1, 0), 0, wave.wave.onset),
                          system.state(wave.wave.onset)));
    const Place detects = 2 * planted.options.detect + 1;
    const Place writes = 2 * planted.options.write + 1;
    const Place sink = 2 * wave.wave.onset;
    EXPECT_GT(edge_effect(system, wave, writes, sink).low, 0.5);
    EXPECT_GT(edge_effect(system, wave, detects, writes).low, 0.5);
    EXPECT_GT(node_effect(system, wave, detects).low, 0.5);
    // The detector writes to the flag, of which no head reads anything.
    EXPECT_LT(edge_effect(system, wave, detects, sink).high, 0.02);
    // What comes after the writer cannot matter to it.
    EXPECT_LT(node_effect(system, wave, writes - 1).high, 0.3);
    EXPECT_EQ(drawing_share(planted, model, system.ids(), wave.wave), 1.0);
  }
}

}  // namespace
}  // namespace plumb::test
