// Exact identities of a causal decoder, over random small models of both kinds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/naive_decoder.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// The order of float64 sums differs between two ways to compute one number.
constexpr double rounding = 1e-11;

class Forward : public testing::TestWithParam<int> {
 protected:
  std::uint64_t seed_ = static_cast<std::uint64_t>(GetParam());
  ModelConfig config_ = any_config(seed_);
  Model model_ = toy_model(config_, seed_);
  Tokens tokens_ = toy_tokens(config_, 3, 9, seed_ + 1);

  std::vector<Record> every_stream() const {
    std::vector<Record> sites;
    for (int layer = 0; layer < config_.layers; ++layer) {
      for (const Part part :
           {Part::resid_pre, Part::attn_out, Part::resid_mid, Part::mlp_out, Part::resid_post}) {
        sites.push_back({Site{part, layer}});
      }
    }
    return sites;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Forward, testing::Range(0, config_kinds));

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance = rounding) {
  EXPECT_LE((a - b).abs().max().item<double>(),
            tolerance * std::max(1.0, b.abs().max().item<double>()));
}

TEST_P(Forward, AgreesWithTheNaiveTwin) {
  const NaiveRun naive = naive_forward(
      config_, [this](Weight w, int l) { return model_.weight(w, l); }, tokens_.ids);
  Plan plan{.record = every_stream()};
  for (int layer = 0; layer < config_.layers; ++layer)
    plan.record.push_back({Site{Part::pattern, layer}});
  const auto run = plumb::run(model_, tokens_, plan);
  expect_close(run.logits, naive.logits);
  for (int layer = 0; layer < config_.layers; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    expect_close(run.cache.at({Part::pattern, layer}), naive.patterns[l]);
    expect_close(run.cache.at({Part::resid_mid, layer}), naive.resid_mid[l]);
    expect_close(run.cache.at({Part::resid_post, layer}), naive.resid_post[l]);
  }
}

TEST_P(Forward, RecordingChangesNothing) {
  Plan everything;
  for (int part = 0; part < part_count; ++part) {
    const auto p = static_cast<Part>(part);
    for (int layer = 0; layer < (per_layer(p) ? config_.layers : 1); ++layer) {
      if (has_part(config_, p, layer)) everything.record.push_back({Site{p, layer}});
    }
  }
  const auto plain = plumb::run(model_, tokens_);
  const auto recorded = plumb::run(model_, tokens_, everything);
  EXPECT_TRUE(at::equal(plain.logits, recorded.logits));
  EXPECT_TRUE(at::equal(recorded.cache.at({Part::logits}), plain.logits));
  EXPECT_EQ(plain.evaluations, 3 * 9 * config_.layers);
}

TEST_P(Forward, PatternRowsSumToOneAndTheFirstIsOne) {
  Plan plan;
  for (int layer = 0; layer < config_.layers; ++layer)
    plan.record.push_back({Site{Part::pattern, layer}});
  const auto run = plumb::run(model_, tokens_, plan);
  for (const auto& record : plan.record) {
    const at::Tensor& pattern = run.cache.at(record.site);
    EXPECT_EQ(pattern.triu(1).abs().max().item<double>(), 0.0);
    if (config_.sink_logits) continue;
    expect_close(pattern.sum(-1), at::ones_like(pattern.select(-1, 0)));
    EXPECT_TRUE(pattern.select(2, 0).select(2, 0).eq(1.0).all().item<bool>());  // U1
  }
}

TEST_P(Forward, ASinkLogitTakesTheRestOfEachRow) {
  if (!config_.sink_logits) GTEST_SKIP() << "no sink logits";
  Plan plan{.record = {Site{Part::pattern, 1}, Site{Part::sink_mass, 1}}};
  const auto run = plumb::run(model_, tokens_, plan);
  const at::Tensor& mass = run.cache.at({Part::sink_mass, 1});
  EXPECT_GT(mass.min().item<double>(), 0.0);
  expect_close(run.cache.at({Part::pattern, 1}).sum(-1, true) + mass, at::ones_like(mass));
  plan.interventions = {{.site = {Part::sink_mass, 1}, .edit = Zero{}}};
  const auto without = plumb::run(model_, tokens_, plan);
  expect_close(without.cache.at({Part::pattern, 1}).sum(-1, true), at::ones_like(mass));
}

TEST_P(Forward, ScalesOfNormsOnWritesAreThatOfTheirInputs) {
  if (config_.norm_place == NormPlace::before) GTEST_SKIP() << "no norm on writes";
  for (const auto& [scale, written] : {std::pair(Part::ln1_post_scale, Part::attn_out),
                                       std::pair(Part::ln2_post_scale, Part::mlp_out)}) {
    Plan plan{.record = {Site{scale, 1}, Site{written, 1}}};
    const auto plain = plumb::run(model_, tokens_, plan);
    plan.interventions = {{.site = {scale, 1}, .edit = Scale{2.0}}};
    const auto doubled = plumb::run(model_, tokens_, plan);
    expect_close(doubled.cache.at({written, 1}), 2.0 * plain.cache.at({written, 1}));
  }
}

TEST_P(Forward, AParallelMlpDoesNotReadAttention) {
  if (!config_.parallel) GTEST_SKIP() << "the MLP reads what attention adds";
  Plan plan{.record = {Site{Part::mlp_out, 1}, Site{Part::mlp_in, 1}, Site{Part::resid_pre, 1}}};
  const auto plain = plumb::run(model_, tokens_, plan);
  EXPECT_TRUE(at::equal(plain.cache.at({Part::mlp_in, 1}), plain.cache.at({Part::resid_pre, 1})));
  plan.interventions = {{.site = {Part::attn_out, 1}, .edit = Zero{}}};
  EXPECT_TRUE(at::equal(plumb::run(model_, tokens_, plan).cache.at({Part::mlp_out, 1}),
                        plain.cache.at({Part::mlp_out, 1})));
}

TEST_P(Forward, ContributionsSumToTheStream) {
  Plan plan{.record = every_stream()};
  plan.record.push_back({Site{Part::resid_final}});
  for (int layer = 0; layer < config_.layers; ++layer)
    plan.record.push_back({Site{Part::head_out, layer}});
  const auto run = plumb::run(model_, tokens_, plan);
  at::Tensor sum = run.cache.at({Part::resid_pre, 0});
  for (int layer = 0; layer < config_.layers; ++layer) {
    const at::Tensor& attn_out = run.cache.at({Part::attn_out, layer});
    at::Tensor heads = run.cache.at({Part::head_out, layer}).sum(2);
    if (config_.out_bias) heads = heads + model_.weight(Weight::out_bias, layer);
    expect_close(heads, attn_out);  // U4
    sum = sum + attn_out + run.cache.at({Part::mlp_out, layer});
  }
  expect_close(sum, run.cache.at({Part::resid_final}));
}

TEST_P(Forward, PositionZeroDoesNotSeeLaterTokens) {
  Tokens other = toy_tokens(config_, 3, 9, seed_ + 50);
  other.ids.select(1, 0).copy_(tokens_.ids.select(1, 0));
  const Plan plan{.record = every_stream()};
  const auto a = plumb::run(model_, tokens_, plan);
  const auto b = plumb::run(model_, other, plan);
  const auto alone = plumb::run(model_, Tokens{.ids = tokens_.ids.narrow(1, 0, 1)}, plan);
  for (const auto& record : plan.record) {
    const at::Tensor p0 = a.cache.at(record.site).select(1, 0);
    expect_close(b.cache.at(record.site).select(1, 0), p0);      // U2
    expect_close(alone.cache.at(record.site).select(1, 0), p0);  // U3
  }
}

TEST_P(Forward, OnlyAbsolutePositionsNoticeAShift) {
  Tokens moved = tokens_;
  for (std::int64_t t = 0; t < tokens_.length(); ++t) moved.positions.push_back(t + 11);
  const at::Tensor here = plumb::run(model_, tokens_).logits;
  const at::Tensor there = plumb::run(model_, moved).logits;
  // Queries that grow do so with the position itself.
  if (config_.positions == Positions::learned || config_.rope.query_growth > 0) {
    EXPECT_GT((here - there).abs().max().item<double>(), 1e-3);
  } else {
    expect_close(there, here, 1e-9);  // U5; cosines of larger angles round differently
  }
}

TEST_P(Forward, EqualTokensGiveEqualStates) {
  if (config_.positions == Positions::learned)
    GTEST_SKIP() << "learned positions tell equal tokens apart";
  if (config_.sink_logits) GTEST_SKIP() << "a sink logit takes less of longer rows";
  const Tokens same{.ids = at::full({2, 7}, 5, at::kLong)};
  const auto run = plumb::run(model_, same, {.record = {Site{Part::resid_final}}});
  const at::Tensor& state = run.cache.at({Part::resid_final});
  expect_close(state, state.narrow(1, 0, 1).expand_as(state));  // U6
}

TEST_P(Forward, WithoutPositionsEqualTokensAreAttendedEqually) {
  ModelConfig config = random_config(seed_ * 2);
  config.positions = Positions::none;
  const Model model = toy_model(config, seed_);
  const auto run = plumb::run(model, Tokens{.ids = at::full({1, 7}, 5, at::kLong)},
                              {.record = {Site{Part::pattern, 1}}});
  const at::Tensor column = run.cache.at({Part::pattern, 1}).select(-1, 0);
  expect_close(column, (1.0 / at::arange(1, 8, at::kDouble)).expand_as(column));  // U7
}

TEST_P(Forward, ASelfMaskInAllLayersIsARunOfLengthOne) {
  constexpr std::int64_t k = 4;
  Plan plan{.record = {Site{Part::resid_final}}};
  for (int layer = 0; layer < config_.layers; ++layer) {
    plan.interventions.push_back(
        {.site = {Part::scores, layer}, .where = {.positions = {k}}, .edit = OnlySelf{}});
  }
  const auto masked = plumb::run(model_, tokens_, plan);
  Tokens alone{.ids = tokens_.ids.narrow(1, k, 1).contiguous()};
  if (config_.positions == Positions::learned) alone.positions = {k};
  const auto single = plumb::run(model_, alone, {.record = {Site{Part::resid_final}}});
  expect_close(masked.cache.at({Part::resid_final}).select(1, k),
               single.cache.at({Part::resid_final}).select(1, 0));  // U8
}

TEST_P(Forward, RestartingAnywhereGivesTheSameBits) {
  const auto whole = plumb::run(model_, tokens_, {.record = every_stream()});
  for (int layer = 0; layer < config_.layers; ++layer) {
    Plan plan;
    plan.restart = Restart{.layer = layer, .resid_pre = whole.cache.at({Part::resid_pre, layer})};
    EXPECT_TRUE(at::equal(plumb::run(model_, tokens_, plan).logits, whole.logits))
        << "restart at " << layer;
    Plan part{.record = {Site{Part::resid_post, layer}}, .until = layer + 1};
    const auto stopped = plumb::run(model_, tokens_, part);
    EXPECT_FALSE(stopped.logits.defined());
    EXPECT_TRUE(at::equal(stopped.cache.at({Part::resid_post, layer}),
                          whole.cache.at({Part::resid_post, layer})));
  }
}

TEST_P(Forward, PaddingReachesNoValidPosition) {
  const auto whole = plumb::run(model_, tokens_);
  Tokens padded{.ids = at::constant_pad_nd(tokens_.ids, {0, 4}, 3),
                .lengths = at::full({3}, 9, at::kLong)};
  expect_close(plumb::run(model_, padded).logits.narrow(1, 0, 9), whole.logits);
}

TEST(ForwardBits, DoNotDependOnThreads) {
  const ModelConfig config = random_config(4);
  // Several tiles, the last one ragged; and one tile, whose products are shared among threads.
  for (const auto& [batch, length] : {std::pair{23, 17}, std::pair{1, 1100}}) {
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      const Tokens tokens = toy_tokens(config, batch, length, 9);
      const at::Tensor one =
          plumb::run(toy_model(config, 1, {.dtype = dtype, .threads = 1}), tokens).logits;
      for (const int threads : {2, 3}) {
        const Model model = toy_model(config, 1, {.dtype = dtype, .threads = threads});
        EXPECT_TRUE(at::equal(plumb::run(model, tokens).logits, one)) << threads << " threads";
      }
    }
  }
}

TEST(ForwardBits, TilesAgreeWithSingleSequences) {
  const ModelConfig config = random_config(6);
  const Model model = toy_model(config, 2);
  const Tokens tokens = toy_tokens(config, 23, 17, 9);
  const at::Tensor all = plumb::run(model, tokens).logits;
  for (std::int64_t b = 0; b < 23; b += 5) {
    expect_close(plumb::run(model, Tokens{.ids = tokens.ids.narrow(0, b, 1)}).logits[0], all[b]);
  }
}

}  // namespace
}  // namespace plumb::test
