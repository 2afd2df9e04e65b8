// The locator on models whose circuit is known by construction.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "plumb/error.h"
#include "plumb/p0.h"
#include "plumb/plant.h"
#include "sink/p0_pointwise.h"
#include "support/token_lists.h"

namespace plumb {
namespace {

constexpr std::int64_t sequences = 12;
constexpr std::int64_t length = 48;

P0Report locate(const PlantOptions& options) {
  const Planted planted = plant(options);
  const Model model = to_model(planted);
  const auto ids = test::as_lists(plant_tokens(planted, 5, sequences, length));
  P0Inputs inputs;
  inputs.plain = make_inputs(ids, length, {}, "tokens");
  if (options.route == Route::token)
    inputs.native = make_inputs(ids, length, planted.bos, "tokens");
  inputs.random = make_inputs(random_ids(sequences, length, 256, nullptr, 9), length, {}, "random");
  P0Options p0;
  p0.causal_sequences = sequences;
  p0.causal_length = length;
  p0.self_mask_position = 20;
  return locate_p0(model, inputs, p0);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

class PositionalPlant : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, PositionalPlant, testing::Range(0, 3));

TEST_P(PositionalPlant, IsFoundWithItsComponents) {
  const PlantOptions options{.seed = static_cast<std::uint64_t>(GetParam())};
  const Planted planted = plant(options);
  const P0Report report = locate(options);
  ASSERT_EQ(report.waves.size(), 1U);
  const WaveReport& wave = report.waves.front();
  EXPECT_EQ(wave.wave.onset, planted.onset);
  EXPECT_EQ(wave.wave.last, planted.config.layers - 1);
  EXPECT_EQ(report.verdict, Verdict::positional);
  for (const auto& node : planted.circuit_nodes) {
    const std::string name = node.substr(0, node.find('@'));
    EXPECT_TRUE(contains(wave.writers, name) || contains(wave.upstream, name))
        << node << " was not found";
  }
  std::vector<std::string> found = wave.writers;
  found.insert(found.end(), wave.upstream.begin(), wave.upstream.end());
  for (const auto& name : found) {
    EXPECT_TRUE(contains(planted.circuit_nodes, name + "@0")) << name << " was not planted";
  }
  for (const auto& rung : wave.ladder) {
    if (rung.level == "L7" || rung.level == "L8" || rung.level == "L9") continue;
    EXPECT_EQ(rung.holds, Holds::yes) << rung.level << ": " << rung.claim << ", " << rung.value;
  }
  EXPECT_LT(wave.ledger.closing_error, 1e-4);
  EXPECT_EQ(wave.smallest_mask, std::vector<int>{0});
  EXPECT_NO_THROW(check(wave.circuit));
  EXPECT_NO_THROW(check(report.circuit));
}

TEST_P(PositionalPlant, WithoutItsDetectorHasNoCircuit) {
  const P0Report report =
      locate({.route = Route::none, .seed = static_cast<std::uint64_t>(GetParam())});
  EXPECT_TRUE(report.waves.empty());
  EXPECT_EQ(report.verdict, Verdict::none);
}

TEST_P(PositionalPlant, WithANormNobodyReadsHasNoCircuit) {
  const P0Report report =
      locate({.route = Route::norm_only, .seed = static_cast<std::uint64_t>(GetParam())});
  EXPECT_EQ(report.verdict, Verdict::none);
  EXPECT_FALSE(report.surveys.front().steps.empty());
}

TEST_P(PositionalPlant, MadeByTheBosTokenAloneIsTheTokenRoute) {
  const P0Report report =
      locate({.route = Route::token, .seed = static_cast<std::uint64_t>(GetParam())});
  ASSERT_EQ(report.waves.size(), 1U);
  EXPECT_EQ(report.waves.front().verdict, Verdict::token);
  EXPECT_EQ(report.verdict, Verdict::token);
}

TEST(P0System, IsTheFullRunAtPositionZero) {
  const Planted planted = plant({.seed = 4});
  const Model model = to_model(planted, {.dtype = at::kDouble});
  const Inputs inputs =
      make_inputs(test::as_lists(plant_tokens(planted, 5, 6, 32)), 32, {}, "tokens");
  P0Options options;
  options.causal_sequences = 6;
  options.causal_length = 32;
  const SinkSurvey survey = survey_sink(model, inputs);
  ASSERT_EQ(survey.waves.size(), 1U);
  const Progress quiet;
  P0Context context(model, inputs, options, survey.waves, survey, quiet);
  P0System system(context, survey.waves.front().onset);
  const at::Tensor clean = context.stream(survey.waves.front().onset).select(1, 0);
  EXPECT_LT((system.state({}) - clean).abs().max().item<double>(), 1e-9);

  // A replaced component gives what the full run gives under the same edit.
  const std::vector<Component> set{{.layer = 0, .mlp = true}};
  for (const Ablation kind : {Ablation::zero, Ablation::mean, Ablation::resample}) {
    Plan plan{.record = {{Site{Part::resid_post, survey.waves.front().onset - 1},
                          Slice{.positions = {0}}}},
              .interventions = context.replace(set, kind)};
    const auto run = plumb::run(model, context.inputs.tokens, plan);
    const at::Tensor full = run.cache.at(plan.record.front().site).squeeze(1);
    EXPECT_LT((system.state({.replaced = set, .cut = {}, .donor = kind}) - full)
                  .abs()
                  .max()
                  .item<double>(),
              1e-9);
  }
  // Cutting every path out of a component is replacing it.
  const auto from_m0 = [&](Component sender, Component) { return sender == set.front(); };
  EXPECT_LT(
      (system.state({.replaced = {}, .cut = from_m0}) - system.state({.replaced = set, .cut = {}}))
          .abs()
          .max()
          .item<double>(),
      1e-9);
}

TEST(P0, StoppedHalfwayKeepsWhatItFound) {
  const Planted planted = plant({.seed = 1});
  const Model model = to_model(planted, {.dtype = at::kDouble});
  P0Inputs inputs;
  inputs.plain = make_inputs(test::as_lists(plant_tokens(planted, 6, 6, 24)), 24, {}, "tokens");
  const P0Options options{.causal_sequences = 4, .causal_length = 24, .self_mask_position = 10};
  int calls = 0;
  const P0Report whole =
      locate_p0(model, inputs, options, [&](std::string_view, double) { ++calls; });
  ASSERT_TRUE(whole.complete);
  ASSERT_EQ(whole.waves.size(), 1U);

  int left = calls - 2;
  const auto stop = [&](std::string_view, double) {
    if (--left < 0) throw Error(ErrorKind::interrupted, "stop");
  };
  P0Report part;
  EXPECT_THROW(locate_p0(model, inputs, options, stop, part), Error);
  EXPECT_FALSE(part.complete);
  EXPECT_GT(part.evaluations, 0);
  EXPECT_LE(part.evaluations, whole.evaluations);
  ASSERT_EQ(part.surveys.size(), whole.surveys.size());
  EXPECT_TRUE(at::equal(part.surveys.front().mean, whole.surveys.front().mean));
  ASSERT_EQ(part.waves.size(), 1U);
  EXPECT_EQ(part.waves.front().ledger.total, whole.waves.front().ledger.total);
  EXPECT_EQ(part.waves.front().writers, whole.waves.front().writers);
  ASSERT_EQ(part.waves.front().knockouts.size(), whole.waves.front().knockouts.size());
  EXPECT_EQ(part.waves.front().knockouts.front().removed,
            whole.waves.front().knockouts.front().removed);
}

TEST(P0, RefusesInputsThatAreTooShort) {
  const Model model = to_model(plant({}));
  P0Inputs inputs;
  inputs.plain = make_inputs({{1, 2, 3, 4}}, 4, {}, "tokens");
  EXPECT_THROW(locate_p0(model, inputs), Error);
  inputs.plain = make_inputs({{1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 3, 4, 5, 6, 7, 9}}, 8, {}, "tokens");
  P0Options options;
  options.necessary = 2.0;
  EXPECT_THROW(locate_p0(model, inputs, options), Error);
}

}  // namespace
}  // namespace plumb
