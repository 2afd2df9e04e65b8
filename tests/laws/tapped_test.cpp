// A forward pass written by somebody else, tapped: it is recorded and edited as plumb's own.
#include "plumb/tapped.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "plumb/patch_tapped.h"
#include "support/tapped_twin.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

using test::tapped_twin;

// Float64; the two passes add the same numbers in another order.
constexpr double tolerance = 1e-10;

void expect_equal(const at::Tensor& left, const at::Tensor& right) {
  ASSERT_EQ(left.sizes(), right.sizes());
  EXPECT_LT((left - right).abs().max().item<double>(), tolerance);
}

class Tapped : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, Tapped, testing::Range<std::uint64_t>(0, test::config_kinds));

TEST_P(Tapped, RunsRecordsAndEditsAsPlumbsOwnDecoder) {
  const ModelConfig config = test::any_config(GetParam());
  const Model own = test::toy_model(config, GetParam());
  const TappedModel tapped = tapped_twin(own);
  const Tokens tokens = test::toy_tokens(config, 2, 6, GetParam() + 1);
  const int last = config.layers - 1;
  Plan plan{.record = {Site{Part::resid_pre, last}, Record({Part::z, last}, {.heads = {0}}),
                       Site{Part::pattern, last}, Site{Part::resid_post, last}}};
  for (const bool edited : {false, true}) {
    if (edited) {
      plan.interventions = {
          {.site = {Part::z, 0}, .where = {.heads = {0}, .positions = {2}}, .edit = Zero{}},
          {.site = {Part::mlp_out, last}, .where = {.positions = {0, 3}}, .edit = Scale{-0.5}}};
    }
    const plumb::Run ours = plumb::run(own, tokens, plan);
    const plumb::Run theirs = plumb::run(tapped, tokens, plan);
    expect_equal(theirs.logits, ours.logits);
    for (const auto& [key, value] : ours.cache.entries())
      expect_equal(theirs.cache.at(key.first, key.second), value);
    EXPECT_EQ(theirs.evaluations, ours.evaluations);
  }
}

Pairs some_pairs(const ModelConfig& config, std::uint64_t seed) {
  const at::Tensor ids = test::toy_tokens(config, 2, 5, seed).ids;
  std::vector<PairIds> pairs;
  for (std::int64_t b = 0; b < 2; ++b) {
    PairIds pair{.right = b, .wrong = b + 2};
    for (std::int64_t t = 0; t < 5 - b; ++t) pair.clean.push_back(ids[b][t].item<std::int64_t>());
    pair.corrupt = pair.clean;
    pair.corrupt[1] = (pair.corrupt[1] + 1) % config.vocab;
    pairs.push_back(pair);
  }
  return make_pairs(pairs);
}

void expect_same_sweeps(const Model& own, const TappedModel& tapped, const Pairs& pairs,
                        const std::vector<SweepSpec>& sweeps, const PatchOptions& options) {
  SCOPED_TRACE(to_string(options.metric) + " " + to_string(options.replacement));
  const PatchReport ours = patch(own, pairs, sweeps, options);
  const PatchReport theirs = patch(tapped, pairs, sweeps, options);
  expect_equal(theirs.clean, ours.clean);
  expect_equal(theirs.corrupt, ours.corrupt);
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    SCOPED_TRACE(to_string(sweeps[i]));
    EXPECT_TRUE(at::equal(theirs.sweeps[i].each.isnan(), ours.sweeps[i].each.isnan()));
    expect_equal(theirs.sweeps[i].each.nan_to_num(0.0), ours.sweeps[i].each.nan_to_num(0.0));
    expect_equal(theirs.sweeps[i].values.nan_to_num(0.0), ours.sweeps[i].values.nan_to_num(0.0));
  }
}

TEST_P(Tapped, IsPatchedAsPlumbsOwnDecoder) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model own = test::toy_model(config, GetParam());
  const TappedModel tapped = tapped_twin(own);
  const Pairs pairs = some_pairs(config, GetParam());
  const std::vector<SweepSpec> sweeps = {
      parse_sweep("resid_pre:layer,position"),
      parse_sweep("z:layer,head"),
      parse_sweep("mlp_out:layer,position"),
      parse_sweep("v:layer,head,position"),
      parse_sweep("pattern:layer,query"),
      sweep_of_sets({parse_site_set("L0.z[h=0;t=1] L1.attn_out[t=2]", config.layers)})};
  for (const char* metric : {"logit_diff", "kl", "norm:L1.resid_mid"}) {
    PatchOptions options{.metric = parse_metric(metric), .raw = true};
    expect_same_sweeps(own, tapped, pairs, sweeps, options);
    options.with = parse_fixed_edits("L0.mlp_out[t=2]=scale:0.5", config.layers);
    options.direction = Direction::noising;
    options.replacement.kind = ReplacementKind::mean_batch;
    expect_same_sweeps(own, tapped, pairs, sweeps, options);
  }
  const PatchReport report = patch(tapped, pairs, {sweeps[1]});
  // Two plain runs, and a whole one for each head.
  const std::int64_t tokens = pairs.count() * pairs.length() * config.layers;
  EXPECT_EQ(report.evaluations, (2 + config.layers * config.heads) * tokens);
}

std::string refusal(const TappedModel& model, const Tokens& tokens, const Plan& plan,
                    ErrorKind kind) {
  try {
    run(model, tokens, plan);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return {};
}

TEST(TappedModels, SayWhatDoesNotFit) {
  const ModelConfig config = test::random_config(1);
  const Model own = test::toy_model(config, 1);
  const Tokens tokens = test::toy_tokens(config, 2, 5, 3);
  const TappedModel model = tapped_twin(own);
  refusal(model, tokens, {.until = 1}, ErrorKind::unsupported);
  refusal(model, tokens, {.record = {Site{Part::z, config.layers}}}, ErrorKind::bad_argument);
  // The plain decoder does not hand over what its norms divide by.
  const std::string missed =
      refusal(model, tokens, {.record = {Site{Part::ln1_scale, 0}}}, ErrorKind::bad_argument);
  EXPECT_NE(missed.find("never reaches L0.ln1_scale"), std::string::npos) << missed;
  EXPECT_NE(missed.find("L0.resid_pre"), std::string::npos) << missed;

  const TappedModel odd(
      config,
      [&](const Tokens& given, const SiteTap& tap) {
        tap({Part::z, 0}, at::zeros({given.batch(), given.length(), config.d_model}));
        return at::zeros({given.batch(), given.length(), config.vocab});
      },
      "odd");
  const std::string shape =
      refusal(odd, tokens, {.record = {Site{Part::z, 0}}}, ErrorKind::bad_shape);
  EXPECT_NE(shape.find("odd handed over L0.z"), std::string::npos) << shape;
  EXPECT_THROW(TappedModel(config, {}, "none"), Error);
}

}  // namespace
}  // namespace plumb
