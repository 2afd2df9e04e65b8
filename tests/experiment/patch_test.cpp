// The patching engine against one forward pass for each site.
#include "plumb/patch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "support/naive_patch.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

using test::expect_as_naive;
using test::toy_pairs;

// Metrics in float64.
constexpr double tolerance = 1e-10;

// Indices of `any_config`: both kinds of decoder, a mixture of experts, and every unusual config.
class PatchTwin : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, PatchTwin,
                         testing::Values(0, 1, 6, 12, 13, 14, 15, 16, 17, 18, 19, 20));

TEST_P(PatchTwin, EverySiteGivesWhatAWholeForwardPassGives) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 2, 5, GetParam() + 100);
  PatchOptions options{.raw = true};
  options.direction = GetParam() % 3 == 0 ? Direction::noising : Direction::denoising;
  std::vector<const char*> sweeps = {"resid_pre:layer,position",
                                     "resid_pre:layer",
                                     "resid_mid:layer,position",
                                     "resid_post:position,layer",
                                     "attn_out:layer,position",
                                     "attn_out:layer",
                                     "mlp_out:layer,position",
                                     "z:layer,head",
                                     "z:layer,head,position",
                                     "z:layer,position",
                                     "q:layer,head",
                                     "k:layer,head,position",
                                     "v:layer,head",
                                     "scores:layer,head",
                                     "pattern:layer,head",
                                     "pattern:layer,head,position",
                                     "head_out:layer,head",
                                     "embed:position",
                                     "pattern:layer,head,query,key",
                                     "scores:layer,query,key",
                                     "scores:layer,head,key"};
  if (config.positions == Positions::learned) sweeps.push_back("pos_embed:position");
  if (config.experts.count == 0) {
    sweeps.insert(sweeps.end(), {"mlp_post:layer,position", "mlp_pre:layer",
                                 "mlp_post:layer,neuron", "mlp_pre:layer,neuron,position"});
    if (config.gated_mlp) sweeps.push_back("mlp_up:neuron,layer");
  } else {
    sweeps.insert(sweeps.end(), {"expert_out:layer,expert", "expert_out:layer,position",
                                 "shared_out:layer", "router:layer,expert,position"});
  }
  for (const char* sweep : sweeps) expect_as_naive(model, pairs, sweep, options);
}

TEST(Patch, EveryMetricIsItsDefinition) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 6, 9);
  for (const char* name : {"logit_diff", "log_prob", "prob", "rank", "kl", "reverse_kl", "js"}) {
    SCOPED_TRACE(name);
    expect_as_naive(model, pairs, "attn_out:layer,position",
                    {.metric = parse_metric(name), .raw = true});
  }
  Metric largest{.kind = MetricKind::custom};
  largest.custom = [](const at::Tensor& logits, const at::Tensor&) { return logits.amax(-1); };
  expect_as_naive(model, pairs, "z:layer,head", {.metric = largest, .raw = true});
}

TEST(Patch, NormalisedValuesRunFromTheUnpatchedToThePastedRun) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 7, 5);
  for (const Direction direction : {Direction::denoising, Direction::noising}) {
    const PatchReport report = patch(
        model, pairs, {parse_sweep("resid_pre:layer"), parse_sweep("resid_pre:layer,position")},
        {.direction = direction});
    // The whole stream pasted is the other run.
    EXPECT_LT((report.sweeps[0].values - 1.0).abs().max().item<double>(), tolerance);
    // At position 0 both prompts are alike.
    EXPECT_LT(report.sweeps[1].values.select(1, 0).abs().max().item<double>(), tolerance);
    EXPECT_NEAR(report.clean_mean.mean, report.clean.mean().item<double>(), tolerance);
  }
}

TEST(Patch, TheSameBitsForAnyNumberOfThreads) {
  const ModelConfig config = test::random_config(4);
  const Pairs pairs = toy_pairs(config, 4, 9, 3);
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2, 3}) {
    const Model model = test::toy_model(config, 4, {.dtype = at::kFloat, .threads = threads});
    const PatchReport report = patch(
        model, pairs, {parse_sweep("z:layer,head,position"), parse_sweep("v:layer,head")}, {});
    results.push_back(
        at::cat({report.sweeps[0].each.reshape({-1}), report.sweeps[1].each.reshape({-1})}));
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
  EXPECT_TRUE(at::equal(results[0], results[2]));
}

TEST(Patch, CountsOnlyWhatItComputes) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 8, 1);
  const PatchReport report =
      patch(model, pairs, {parse_sweep("resid_pre:layer,position")}, {.raw = true});
  const std::int64_t B = 3;
  const std::int64_t T = 8;
  const std::int64_t L = config.layers;
  // Two plain runs, and of every site the blocks and positions from it on.
  EXPECT_EQ(report.evaluations, 2 * B * T * L + B * (T * (T + 1) / 2) * (L * (L + 1) / 2));
  EXPECT_EQ(report.naive_evaluations, L * T * B * T * L);
}

TEST(Patch, SaysWhereTheMetricIsNotFinite) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 2, 5, 1);
  Metric odd{.kind = MetricKind::custom, .name = "odd"};
  odd.custom = [](const at::Tensor& logits, const at::Tensor&) {
    return logits.select(-1, 0) / 0.0;
  };
  const PatchReport report =
      patch(model, pairs, {parse_sweep("z:layer,head")}, {.metric = odd, .raw = true});
  EXPECT_EQ(report.sweeps.front().not_finite.size(),
            static_cast<std::size_t>(config.layers * config.heads));
  EXPECT_EQ(report.sweeps.front().not_finite.front(), "L0.z[h=0]");
}

TEST(Patch, RefusesWhatMakesNoSense) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 2, 5, 1);
  Pairs same = pairs;
  same.corrupt = same.clean;
  EXPECT_THROW(patch(model, same, {parse_sweep("z:layer,head")}), Error);
  EXPECT_THROW(patch(model, pairs, {}), Error);
  Pairs outside = pairs;
  outside.right = at::full_like(outside.right, config.vocab);
  EXPECT_THROW(patch(model, outside, {parse_sweep("z:layer,head")}), Error);
  for (const char* wrong : {"", "z", "z:", "z:head", "y:layer", "z:layer,layer", "z:layer,neuron",
                            "logits:layer", "attn_out:layer,head", "z:layer,head,"}) {
    EXPECT_THROW(parse_sweep(wrong), Error) << wrong;
  }
  EXPECT_EQ(to_string(parse_sweep("z:layer,head,position")), "z:layer,head,position");
  EXPECT_THROW(parse_metric("accuracy"), Error);
  EXPECT_THROW(parse_direction("forwards"), Error);
}

}  // namespace
}  // namespace plumb
