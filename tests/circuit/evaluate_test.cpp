// Faithfulness, curves, completeness and minimality, by their definitions.
#include "plumb/evaluate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "plumb/error.h"
#include "support/hash_weights.h"

namespace plumb {
namespace {

// Float64 on both sides.
constexpr double tolerance = 1e-10;

EdgeCircuit some_scores(const Model& model) {
  EdgeCircuit made = empty_circuit(EdgeSpace(model.config()));
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  for (double& score : made.scores) score = normal(random);
  return made;
}

double mean_of(const at::Tensor& each) { return each.mean().item<double>(); }

TEST(Evaluate, GivesFaithfulnessAndCompleteness) {
  const Model model = test::hash_model("llama");
  const Pairs pairs = test::hash_pairs();
  const EdgeCircuit scored = some_scores(model);
  const EdgeCircuit some = top_edges(scored, 80, true);
  const Evaluation found =
      evaluate(model, {some, full_circuit(scored.space), empty_circuit(scored.space)}, pairs,
               {.complements = true});
  const EdgeRuns runs =
      run_edges(model, scored.space, {pruned(some).in, pruned(complement(pruned(some))).in}, pairs);
  const double from = mean_of(runs.empty);
  const double range = mean_of(runs.clean) - from;
  EXPECT_TRUE(at::equal(found.circuits[0].each, runs.each[0]));
  EXPECT_NEAR(found.circuits[0].faithfulness.mean, (mean_of(runs.each[0]) - from) / range,
              tolerance);
  EXPECT_NEAR(found.circuits[0].completeness.mean, (mean_of(runs.each[1]) - from) / range,
              tolerance);
  EXPECT_EQ(found.circuits[0].edges, count_edges(pruned(some)));
  EXPECT_LE(found.circuits[0].faithfulness.low, found.circuits[0].faithfulness.mean);
  EXPECT_GE(found.circuits[0].faithfulness.high, found.circuits[0].faithfulness.mean);
  // What is whole or empty is known without a run, and leaves the reverse.
  EXPECT_EQ(found.circuits[1].faithfulness.mean, 1.0);
  EXPECT_EQ(found.circuits[1].completeness.mean, 0.0);
  EXPECT_EQ(found.circuits[2].faithfulness.mean, 0.0);
  EXPECT_EQ(found.circuits[2].faithfulness.high, 0.0);
  EXPECT_TRUE(at::equal(found.clean, runs.clean));
  EXPECT_TRUE(at::equal(found.corrupt, runs.corrupt));
}

TEST(Evaluate, DrawsMibsCurves) {
  const Model model = test::hash_model("gpt2");
  const Pairs pairs = test::hash_pairs();
  const EdgeCircuit scored = some_scores(model);
  const std::vector<double> fractions = {0.05, 0.2, 0.5, 1.0};
  const CurveReport found =
      evaluate_curve(model, scored, pairs, {.fractions = fractions, .baselines = 1, .seed = 3});
  ASSERT_EQ(found.curves.size(), 5U);
  const std::vector<std::string> names = {"signed", "absolute", "random 1", "layers 1", "scores 1"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Curve& curve = found.curves[i];
    EXPECT_EQ(curve.name, names[i]);
    ASSERT_EQ(curve.points.size(), fractions.size());
    double cpr = 0.0;
    double cmd = 0.0;
    for (std::size_t p = 0; p < fractions.size(); ++p) {
      const CurvePoint& point = curve.points[p];
      EXPECT_EQ(point.chosen, static_cast<std::int64_t>(fractions[p] * 262));
      if (i < 2) {
        const EdgeCircuit circuit = pruned(top_edges(scored, point.chosen, i == 1));
        EXPECT_EQ(point.value.edges, count_edges(circuit));
        const Evaluation one = evaluate(model, {circuit}, pairs);
        EXPECT_NEAR(one.circuits[0].faithfulness.mean, point.value.faithfulness.mean, tolerance);
      }
      if (p == 0) continue;
      const double width = fractions[p] - fractions[p - 1];
      const double here = point.value.faithfulness.mean;
      const double before = curve.points[p - 1].value.faithfulness.mean;
      cpr += 0.5 * width * (here + before);
      cmd += 0.5 * width * (std::abs(1 - here) + std::abs(1 - before));
    }
    EXPECT_NEAR(curve.cpr.mean, cpr, tolerance);
    EXPECT_NEAR(curve.cmd.mean, cmd, tolerance);
    EXPECT_LE(curve.cpr.low, curve.cpr.high);
    EXPECT_EQ(curve.points.back().value.faithfulness.mean, 1.0);
  }
  EXPECT_THROW((void)evaluate_curve(model, scored, pairs, {.fractions = {0.5, 0.2}}), Error);
  EXPECT_THROW((void)evaluate_curve(model, scored, pairs, {.fractions = {0.5}}), Error);
}

TEST(Evaluate, SaysWhatEdgesAdd) {
  const Model model = test::hash_model("gpt2");
  const Pairs pairs = test::hash_pairs();
  const EdgeCircuit circuit = pruned(top_edges(some_scores(model), 120, true));
  const auto needs = minimality(model, circuit, pairs, 5, {}, 1);
  ASSERT_EQ(needs.size(), 5U);
  const Evaluation whole = evaluate(model, {circuit}, pairs);
  for (std::size_t i = 0; i < needs.size(); ++i) {
    EdgeCircuit rest = circuit;
    ASSERT_EQ(rest.in[static_cast<std::size_t>(needs[i].edge)], 1);
    rest.in[static_cast<std::size_t>(needs[i].edge)] = 0;
    const Evaluation without = evaluate(model, {rest}, pairs);
    EXPECT_NEAR(needs[i].loss.mean,
                whole.circuits[0].faithfulness.mean - without.circuits[0].faithfulness.mean,
                tolerance);
    if (i > 0) {
      EXPECT_GE(std::abs(needs[i - 1].loss.mean), std::abs(needs[i].loss.mean));
    }
  }
  EXPECT_EQ(minimality(model, circuit, pairs, 1000).size(),
            static_cast<std::size_t>(count_edges(circuit)));
}

TEST(Evaluate, RefusesWhereNothingIsLost) {
  const Model model = test::hash_model("gpt2");
  Pairs pairs = test::hash_pairs();
  pairs.corrupt = pairs.clean;
  EXPECT_THROW((void)evaluate(model, {full_circuit(EdgeSpace(model.config()))}, pairs), Error);
  EXPECT_THROW((void)evaluate(model, {}, test::hash_pairs()), Error);
}

TEST(TopStability, IsOneWhereAllPairsAgree) {
  const at::Tensor one = at::randn({1, 50}, at::kDouble);
  const Estimate same = top_stability(one.expand({6, 50}), 10, true);
  EXPECT_EQ(same.mean, 1.0);
  EXPECT_EQ(same.low, 1.0);
  const Estimate other = top_stability(at::randn({6, 50}, at::kDouble), 10, true);
  EXPECT_LT(other.mean, 0.9);
  EXPECT_GT(other.mean, 0.0);
  EXPECT_THROW((void)top_stability(one, 51, true), Error);
}

}  // namespace
}  // namespace plumb
