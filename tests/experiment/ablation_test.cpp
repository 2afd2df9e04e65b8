// Ablations, sets, fixed edits and metrics of sites against one forward pass for each site.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "plumb/error.h"
#include "plumb/patch.h"
#include "plumb/replacement.h"
#include "support/naive_patch.h"
#include "support/paths.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

using test::expect_as_naive;
using test::toy_pairs;

const std::vector<const char*> sweeps = {"resid_pre:layer,position", "z:layer,head",
                                         "attn_out:layer",           "q:layer,head,position",
                                         "mlp_out:layer,position",   "head_out:layer,head"};

Replacement with_vector(ReplacementKind kind, std::int64_t width) {
  return {.kind = kind,
          .vector = at::linspace(-1.0, 2.0, width, at::TensorOptions().dtype(at::kDouble)),
          .vector_name = "line"};
}

class AblationTwin : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, AblationTwin, testing::Values(0, 1, 6, 12, 15));

TEST_P(AblationTwin, EveryKindGivesWhatAWholeForwardPassGives) {
  const ModelConfig config = test::any_config(GetParam());
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 5, GetParam() + 7);  // the second one is shorter
  const auto try_all = [&](const Replacement& replacement) {
    for (const char* sweep : sweeps)
      expect_as_naive(model, pairs, sweep, {.raw = true, .replacement = replacement});
  };
  try_all({.kind = ReplacementKind::zero});
  try_all({.kind = ReplacementKind::mean});
  try_all({.kind = ReplacementKind::mean_batch});
  try_all({.kind = ReplacementKind::mean_position});
  try_all({.kind = ReplacementKind::scale, .number = -0.5});
  try_all({.kind = ReplacementKind::clamp_norm, .number = 1.5});
  for (const auto kind :
       {ReplacementKind::put, ReplacementKind::add, ReplacementKind::project_out}) {
    expect_as_naive(model, pairs, "resid_mid:layer,position",
                    {.raw = true, .replacement = with_vector(kind, config.d_model)});
    expect_as_naive(model, pairs, "z:layer,head",
                    {.raw = true, .replacement = with_vector(kind, config.d_head)});
  }
  const PatchOptions hide{.raw = true, .replacement = {.kind = ReplacementKind::hide}};
  expect_as_naive(model, pairs, "scores:layer,head,key", hide);
  expect_as_naive(model, pairs, "scores:layer,query,key", hide);
  for (const auto kind :
       {ReplacementKind::zero, ReplacementKind::mean_batch, ReplacementKind::scale}) {
    expect_as_naive(model, pairs, "pattern:layer,head,query",
                    {.raw = true, .replacement = {.kind = kind, .number = 2.0}});
  }
  if (config.experts.count == 0) {
    expect_as_naive(model, pairs, "mlp_post:layer,neuron",
                    {.raw = true, .replacement = {.kind = ReplacementKind::mean}});
    expect_as_naive(model, pairs, "mlp_pre:layer,neuron",
                    {.raw = true, .replacement = with_vector(ReplacementKind::add, config.d_mlp)});
  } else {
    expect_as_naive(model, pairs, "expert_out:layer,expert",
                    {.raw = true, .replacement = {.kind = ReplacementKind::zero}});
  }
}

TEST_P(AblationTwin, ResamplingTakesTheValueOfAnotherExample) {
  const ModelConfig config = test::any_config(GetParam());
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  Pairs pairs = toy_pairs(config, 1, 5, 3);
  const Tokens two = test::toy_tokens(config, 2, 5, 17);
  std::vector<PairIds> prompts(2);
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t t = 0; t < 5; ++t)
      prompts[static_cast<std::size_t>(b)].clean.push_back(two.ids[b][t].item<std::int64_t>());
  }
  pairs = make_pairs(prompts);  // prompts without partners and answers
  for (const char* sweep : sweeps) {
    expect_as_naive(model, pairs, sweep,
                    {.metric = {.kind = MetricKind::loss},
                     .raw = true,
                     .replacement = {.kind = ReplacementKind::resample, .seed = 5}});
  }
}

TEST_P(AblationTwin, FixedEditsAndSetsOfSites) {
  const ModelConfig config = test::any_config(GetParam());
  const int last = config.layers - 1;
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 2, 5, GetParam() + 3);
  PatchOptions options{.raw = true};
  options.with = parse_fixed_edits(
      "L0.z[h=0;t=1]=zero L1.mlp_out=scale:0.5 L1.resid_pre[t=2]=mean L0.k[t=1]=other",
      config.layers);
  for (const char* sweep : sweeps) expect_as_naive(model, pairs, sweep, options);
  options.metric = parse_metric("kl");
  expect_as_naive(model, pairs, "z:layer,head", options);
  options.with = parse_fixed_edits("embed[t=0]=scale:2 L0.resid_pre=clamp-norm:3", config.layers);
  expect_as_naive(model, pairs, "resid_pre:layer,position", options);
  options.with.clear();
  const SweepSpec sets =
      sweep_of_sets({parse_site_set("L*.z[h=0]", config.layers),
                     parse_site_set("L0.attn_out[t=1,3] L1.mlp_out[t=2]", config.layers),
                     parse_site_set("embed[t=1] L1.q[h=0;t=2,3]", config.layers),
                     parse_site_set("L" + std::to_string(last) + ".resid_post", config.layers)});
  expect_as_naive(model, pairs, sets, options);
  options.replacement = {.kind = ReplacementKind::mean};
  expect_as_naive(model, pairs, sets, options);
  options.with = parse_fixed_edits("L1.attn_out=zero", config.layers);
  expect_as_naive(model, pairs, sets, options);
}

TEST_P(AblationTwin, MetricsOfSitesAndOfManyPositions) {
  const ModelConfig config = test::any_config(GetParam());
  const int last = config.layers - 1;
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 6, GetParam() + 11);
  const std::string end = "L" + std::to_string(last);
  std::vector<Metric> metrics;
  const std::vector<std::string> texts = {"loss",
                                          "loss@0,2",
                                          "sink:1",
                                          "prob_diff",
                                          "attention:" + end + ".pattern[h=0;t=2,3;k=0,1]",
                                          "norm:" + end + ".resid_post[t=1,3]",
                                          "norm:L1.z",
                                          "norm:L0.attn_out"};
  for (const std::string& text : texts) metrics.push_back(parse_metric(text));
  Metric projection{.kind = MetricKind::projection, .site = parse_site("L1.resid_mid[t=2]")};
  projection.direction =
      at::linspace(-1.0, 2.0, config.d_model, at::TensorOptions().dtype(at::kDouble));
  metrics.push_back(projection);
  for (const Metric& metric : metrics) {
    for (const char* sweep : {"resid_pre:layer,position", "z:layer,head", "mlp_out:layer",
                              "k:layer,head", "resid_post:layer,position"})
      expect_as_naive(model, pairs, sweep, {.metric = metric, .raw = true});
  }
  PatchOptions options{.metric = parse_metric("sink:1"), .raw = true};
  options.with = parse_fixed_edits("L0.mlp_out=zero L1.q[t=2]=scale:2", config.layers);
  expect_as_naive(model, pairs, "z:layer,head", options);
  options.with.clear();
  expect_as_naive(model, pairs,
                  sweep_of_sets({parse_site_set("L0.z[h=0] L1.resid_pre[t=1]", config.layers)}),
                  options);
}

TEST(Ablation, IsParsedAndPrinted) {
  for (const char* text : {"other", "zero", "mean", "mean-batch", "mean-position", "resample",
                           "scale:0.5", "clamp-norm:2", "hide"}) {
    EXPECT_EQ(to_string(parse_replacement(text)), text);
  }
  const auto file = (test::scratch_dir() / "v.json").string();
  std::ofstream(file) << "[[1, 2], [3, 4.5]]";
  EXPECT_EQ(parse_replacement("add:" + file).vector[1][1].item<double>(), 4.5);
  EXPECT_EQ(to_string(parse_replacement("add:" + file)), "add:" + file);
  for (const char* wrong :
       {"", "none", "zero:1", "scale", "scale:", "scale:x", "scale:nan", "clamp-norm:-1", "put"})
    EXPECT_THROW(parse_replacement(wrong), Error) << wrong;
  EXPECT_THROW(parse_replacement("put:/nowhere.json"), Error);
  const auto edits = parse_fixed_edits("L0-1.z[h=*;t=0]=zero L1.mlp_out=scale:2", 2);
  ASSERT_EQ(edits.size(), 3U);
  EXPECT_EQ(to_string(edits[1].at), "L1.z[t=0]");
  EXPECT_EQ(edits[2].replacement.number, 2.0);
  for (const char* wrong : {"", "L0.z", "L0.z=", "L0.z=none", "L9.z=zero"})
    EXPECT_THROW(parse_fixed_edits(wrong, 2), Error) << wrong;
}

// Expects a refusal of kind bad_argument whose message holds the words.
template <class Call>
void expect_refusal(const Call& call, const std::string& words) {
  try {
    call();
    ADD_FAILURE() << "accepted; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(exit_code(error.kind()), 2) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(Ablation, RefusesWhatMakesNoSense) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 3, 5, 1);
  const auto with = [&](const char* sweep, const Replacement& replacement) {
    return [&, sweep, replacement] {
      patch(model, pairs, {parse_sweep(sweep)}, {.raw = true, .replacement = replacement});
    };
  };
  expect_refusal(with("scores:layer", {.kind = ReplacementKind::zero}), "hidden keys");
  expect_refusal(with("pattern:layer", {.kind = ReplacementKind::mean}),
                 "each query sees other keys");
  expect_refusal(with("z:layer", {.kind = ReplacementKind::hide}), "keys are hidden at scores");
  expect_refusal(with("z:layer", with_vector(ReplacementKind::add, config.d_model + 1)),
                 "expected a vector of");
  expect_refusal(with("z:layer", {.kind = ReplacementKind::resample}), "one alone has 3 tokens");
  expect_refusal(with("expert_out:layer,expert", {.kind = ReplacementKind::zero}),
                 "the model has no expert_out");
  const auto metric = [&](const std::string& text, const std::string& with_edits = "") {
    return [&, text, with_edits] {
      PatchOptions options{.metric = parse_metric(text), .raw = true};
      if (!with_edits.empty()) options.with = parse_fixed_edits(with_edits, config.layers);
      patch(model, pairs, {parse_sweep("z:layer")}, options);
    };
  };
  expect_refusal(metric("sink:9"), "the model has no L9.pattern");
  expect_refusal(metric("norm:L0.resid_post[t=4]"), "pair 2 has 3 tokens");
  expect_refusal(metric("loss@3"), "pair 2 has 3 tokens");
  expect_refusal(metric("attention:L0.pattern"), "its keys");
  expect_refusal(metric("norm:L0.pattern[k=0]"), "have no such number");
  expect_refusal(metric("sink:0", "L1.z=zero"), "is never reached");
  expect_refusal(metric("kl", "resid_final=zero"), "lies in a block");
  expect_refusal(
      [&] {
        patch(model, pairs, {sweep_of_sets({parse_site_set("L1.z", config.layers)})},
              {.metric = parse_metric("sink:0"), .raw = true});
      },
      "the edit at L1.z is never reached");
  expect_refusal(
      [&] {
        patch(model, pairs, {sweep_of_sets({parse_site_set("L0.z[t=9]", config.layers)})},
              {.raw = true});
      },
      "index 9 does not exist");
  PairIds lone{.clean = {1, 2, 3}};
  expect_refusal([&] { patch(model, make_pairs({lone}), {parse_sweep("z:layer")}); },
                 "no partners");
  expect_refusal(
      [&] {
        patch(model, make_pairs({lone}), {parse_sweep("z:layer")},
              {.replacement = {.kind = ReplacementKind::zero}});
      },
      "the prompts have no answers");
  for (const char* wrong : {"sink", "sink:", "sink:1.2.3", "sink:x", "norm:", "norm:L0.y",
                            "projection:L0.z", "loss@", "loss@-1"})
    EXPECT_THROW(parse_metric(wrong), Error) << wrong;
  EXPECT_EQ(to_string(parse_metric("sink:3.1")), "attention:L3.pattern[h=1;k=0]");
  EXPECT_EQ(to_string(parse_metric("loss@3,4")), "loss@3,4");
}

TEST(Patch, IntervalsDrawThePairsOfAllRunsAlike) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = toy_pairs(config, 6, 5, 1);
  const std::vector<SweepSpec> specs = {parse_sweep("z:layer,head")};
  const PatchReport raw = patch(model, pairs, specs, {.raw = true, .intervals = true});
  const Sweep& sweep = raw.sweeps.front();
  const Estimate expected = bootstrap(sweep.each[0][0]);
  EXPECT_NEAR(sweep.low[0][0].item<double>(), expected.low, 1e-12);
  EXPECT_NEAR(sweep.high[0][0].item<double>(), expected.high, 1e-12);
  // The pasted-from run itself is 1 in every resample, the unpatched one 0.
  const PatchReport whole =
      patch(model, pairs, {parse_sweep("resid_pre:layer"), parse_sweep("resid_pre:layer,position")},
            {.intervals = true});
  EXPECT_LT((whole.sweeps[0].low - 1.0).abs().max().item<double>(), 1e-9);
  EXPECT_LT((whole.sweeps[0].high - 1.0).abs().max().item<double>(), 1e-9);
  EXPECT_LT(whole.sweeps[1].high.select(1, 0).abs().max().item<double>(), 1e-9);
}

TEST(Patch, AMapAlignsPromptsOfDifferentLength) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const std::vector<PairIds> list = {
      {.clean = {1, 2, 3, 4, 5},
       .corrupt = {1, 2, 9, 8, 4, 5},
       .right = 3,
       .wrong = 4,
       .align = {{0, 0}, {1, 1}, {2, 3}, {3, 4}, {4, 5}}},
      {.clean = {7, 6, 5, 4}, .corrupt = {7, 8, 5, 4}, .right = 1, .wrong = 2}};
  const Pairs pairs = make_pairs(list);
  for (const Direction direction : {Direction::denoising, Direction::noising}) {
    for (const char* sweep :
         {"resid_pre:layer,position", "z:layer,head", "q:layer,position", "mlp_out:layer"})
      expect_as_naive(model, pairs, sweep, {.direction = direction, .raw = true});
  }
  EXPECT_THROW(patch(model, pairs, {parse_sweep("pattern:layer")}, {.raw = true}), Error);
  const auto refused = [&](std::vector<std::pair<std::int64_t, std::int64_t>> map) {
    PairIds pair = list.front();
    pair.align = std::move(map);
    EXPECT_THROW(make_pairs({pair}), Error);
  };
  refused({});
  refused({{0, 6}});
  refused({{0, 1}, {1, 1}});
}

TEST(Patch, SeveralAnswersAreMeansOfLogitsAndSumsOfProbabilities) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  std::vector<PairIds> list = {{.clean = {1, 2, 3},
                                .corrupt = {1, 4, 3},
                                .right = 5,
                                .wrong = 6,
                                .also_right = {7, 8},
                                .also_wrong = {9}},
                               {.clean = {3, 2, 3}, .corrupt = {3, 4, 3}, .right = 1, .wrong = 2}};
  const Pairs pairs = make_pairs(list);
  const at::Tensor logits = run(model, pairs.clean).logits.select(1, 2);
  const auto clean = [&](const char* metric) {
    return patch(model, pairs, {parse_sweep("z:layer")},
                 {.metric = parse_metric(metric), .raw = true})
        .clean;
  };
  const at::Tensor row = logits[0];
  const at::Tensor p = at::softmax(row, 0);
  const auto at = [](const at::Tensor& x, std::int64_t i) { return x[i].item<double>(); };
  EXPECT_NEAR(clean("logit_diff")[0].item<double>(),
              (at(row, 5) + at(row, 7) + at(row, 8)) / 3 - (at(row, 6) + at(row, 9)) / 2, 1e-12);
  EXPECT_NEAR(clean("prob")[0].item<double>(), at(p, 5) + at(p, 7) + at(p, 8), 1e-12);
  EXPECT_NEAR(clean("prob_diff")[0].item<double>(),
              at(p, 5) + at(p, 7) + at(p, 8) - at(p, 6) - at(p, 9), 1e-12);
  EXPECT_NEAR(clean("logit_diff")[1].item<double>(), at(logits[1], 1) - at(logits[1], 2), 1e-12);
}

}  // namespace
}  // namespace plumb
