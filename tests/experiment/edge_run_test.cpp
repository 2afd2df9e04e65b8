// Runs of some edges against the plain way, on every kind of decoder.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "experiment/toy_pairs.h"
#include "plumb/edge_run.h"
#include "plumb/error.h"
#include "plumb/metrics.h"
#include "support/hash_weights.h"
#include "support/naive_edge_run.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

// Float64; sums of some hundred terms in another order.
constexpr double tolerance = 1e-9;

using Mask = std::vector<std::uint8_t>;

Mask random_mask(const EdgeSpace& space, unsigned seed, unsigned in_hundred) {
  std::mt19937 random(seed);
  Mask mask(static_cast<std::size_t>(space.edges()));
  for (std::uint8_t& in : mask) in = random() % 100 < in_hundred ? 1 : 0;
  return mask;
}

void expect_near(const at::Tensor& a, const at::Tensor& b) {
  ASSERT_EQ(a.sizes(), b.sizes());
  const double scale = 1.0 + b.abs().max().item<double>();
  EXPECT_LT((a - b).abs().max().item<double>(), tolerance * scale);
}

class EdgeRun : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Decoders, EdgeRun, testing::Range(0, test::config_kinds));

TEST_P(EdgeRun, IsThePlainWay) {
  const ModelConfig config = test::any_config(static_cast<std::uint64_t>(GetParam()));
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  const Pairs pairs = test::toy_pairs(config, 3, 7, 4);
  const std::vector<Mask> masks = {Mask(static_cast<std::size_t>(space.edges()), 1),
                                   Mask(static_cast<std::size_t>(space.edges()), 0),
                                   random_mask(space, 1, 50), random_mask(space, 2, 10)};
  const EdgeRuns found = run_edges(model, space, masks, pairs);
  // With norms behind attention, the bias of its output goes with the run that stands outside.
  if (!(config.out_bias && config.norm_place != NormPlace::before)) {
    expect_near(found.each[0], found.clean);
  }
  expect_near(found.each[1], found.empty);
  expect_near(found.each[1], found.corrupt);
  // One norm over the queries of all heads is taken of those that each head reads for itself; the
  // plain way, through whole blocks, cannot put them together before it.
  if (config.qk_norm == QkNorm::whole) return;
  const test::NaiveWrites outside = test::naive_writes(model, space, pairs.corrupt);
  for (const std::int64_t i : {2, 3}) {
    const at::Tensor logits = test::naive_edge_logits(model, space, pairs.clean, outside,
                                                      masks[static_cast<std::size_t>(i)]);
    expect_near(found.each[i], logit_diff(logits, pairs.reads, pairs.right, pairs.wrong));
  }
}

TEST(EdgeRuns, GivesHeadsKeysOfTheirOwn) {
  const Model model = test::hash_model("llama");
  const ModelConfig& config = model.config();
  ASSERT_LT(config.kv_heads, config.heads);
  const EdgeSpace space(config.layers, config.heads, config.heads);
  const Pairs pairs = test::toy_pairs(config, 3, 7, 4);
  const Mask mask = random_mask(space, 5, 40);
  const EdgeRuns found = run_edges(model, space, {mask}, pairs);
  const test::NaiveWrites outside = test::naive_writes(model, space, pairs.corrupt);
  const at::Tensor logits =
      test::naive_edge_logits(model, space, pairs.clean, outside, mask);
  expect_near(found.each[0], logit_diff(logits, pairs.reads, pairs.right, pairs.wrong));
}

TEST(EdgeRuns, HasTheSameBitsWhateverStandsBeside) {
  const Model model = test::toy_model(test::any_config(0), 3, {.threads = 3});
  const Model alone = test::toy_model(test::any_config(0), 3, {.threads = 1});
  const EdgeSpace space(model.config());
  const Pairs pairs = test::toy_pairs(model.config(), 5, 7, 4);
  std::vector<Mask> masks;
  for (unsigned i = 0; i < 6; ++i) masks.push_back(random_mask(space, i, 30));
  const EdgeRuns together = run_edges(model, space, masks, pairs);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    const EdgeRuns one = run_edges(alone, space, {masks[i]}, pairs);
    EXPECT_TRUE(at::equal(one.each[0], together.each[static_cast<std::int64_t>(i)])) << i;
  }
}

TEST(EdgeRuns, PutsMeansAndOtherPromptsOutside) {
  const ModelConfig config = test::any_config(1);
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  Pairs pairs = test::toy_pairs(config, 4, 7, 4);
  const Mask none(static_cast<std::size_t>(space.edges()), 0);
  const Mask all(static_cast<std::size_t>(space.edges()), 1);
  const Mask some = random_mask(space, 3, 40);
  for (const char* words : {"zero", "mean", "mean-batch", "mean-position"}) {
    EdgeRunOptions options{.outside = parse_replacement(words)};
    const EdgeRuns found = run_edges(model, space, {none, all, some}, pairs, options);
    expect_near(found.each[0], found.empty);
    expect_near(found.each[1], found.clean);
    EXPECT_GT((found.empty - found.clean).abs().max().item<double>(), 1e-3) << words;
    EXPECT_GT((found.each[2] - found.empty).abs().max().item<double>(), 1e-3) << words;
  }
  // All prompts of one length; each gets another one's values.
  std::vector<PairIds> list;
  for (std::int64_t b = 0; b < 3; ++b) {
    PairIds pair{.right = 1, .wrong = 2};
    for (std::int64_t t = 0; t < 5; ++t) pair.clean.push_back((b * 7 + t * 3) % config.vocab);
    list.push_back(pair);
  }
  pairs = make_pairs(list);
  const EdgeRuns found = run_edges(model, space, {none}, pairs,
                                   {.outside = parse_replacement("resample", 8)});
  for (std::int64_t b = 0; b < 3; ++b) {
    double nearest = 1.0;
    for (std::int64_t other = 0; other < 3; ++other) {
      const double gap = std::abs((found.empty[b] - found.clean[other]).item<double>());
      if (other == b) {
        EXPECT_GT(gap, tolerance);
      } else {
        nearest = std::min(nearest, gap);
      }
    }
    EXPECT_LT(nearest, tolerance);
  }
}

TEST(EdgeRuns, RefusesWhatDoesNotFit) {
  const ModelConfig config = test::any_config(0);
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  const Pairs pairs = test::toy_pairs(config, 2, 5, 4);
  const Mask all(static_cast<std::size_t>(space.edges()), 1);
  const auto refused = [&](const EdgeSpace& asked, const Mask& mask, const Pairs& of,
                           const EdgeRunOptions& options, const std::string& reason) {
    try {
      (void)run_edges(model, asked, {mask}, of, options);
      ADD_FAILURE() << reason;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  const EdgeSpace other(config.layers + 1, config.heads, config.kv_heads, config.parallel);
  refused(other, Mask(static_cast<std::size_t>(other.edges()), 1), pairs, {}, "layers");
  refused(space, Mask(3, 1), pairs, {}, "set of");
  refused(space, all, pairs, {.metric = parse_metric("sink:1")}, "read at its logits");
  refused(space, all, pairs, {.outside = parse_replacement("scale:0.5")}, "not scale:0.5");
  Pairs prompts = pairs;
  prompts.paired = false;
  refused(space, all, prompts, {}, "no partners");
}

}  // namespace
}  // namespace plumb
