// Runs of some edges against the plain way, on every kind of decoder.
#include "plumb/edge_run.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "experiment/patch_metric.h"
#include "experiment/toy_pairs.h"
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
  const at::Tensor logits = test::naive_edge_logits(model, space, pairs.clean, outside, mask);
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
  const EdgeRuns found =
      run_edges(model, space, {none}, pairs, {.outside = parse_replacement("resample", 8)});
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

TEST_P(EdgeRun, ReadsSitesOfABlockAsThePlainWay) {
  const ModelConfig config = test::any_config(static_cast<std::uint64_t>(GetParam()));
  if (config.qk_norm == QkNorm::whole) GTEST_SKIP() << "the plain way cannot put queries together";
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  const Pairs pairs = test::toy_pairs(config, 3, 7, 4);
  const Mask mask = random_mask(space, 6, 40);
  const test::NaiveWrites outside = test::naive_writes(model, space, pairs.corrupt);
  const std::string last = std::to_string(config.layers - 1);
  double largest = 0.0;
  for (const std::string& name :
       {"sink:" + last, std::string("sink:1.0"), "norm:L" + last + ".resid_pre[t=1,3]",
        "norm:L" + last + ".resid_mid[t=1,3]", std::string("norm:L1.resid_post[t=1,3]")}) {
    SCOPED_TRACE(name);
    const Metric metric = parse_metric(name);
    const Site site = metric.site.site;
    const auto plain = [&](const Tokens& tokens) {
      return run(model, tokens, {.record = {site}}).cache.at(site);
    };
    const auto value = [&](const at::Tensor& of) {
      return site_metric(metric, of, lengths_of(pairs, Which::clean));
    };
    const EdgeRuns found = run_edges(model, space, {mask}, pairs, {.metric = metric});
    expect_near(found.clean, value(plain(pairs.clean)));
    expect_near(found.corrupt, value(plain(pairs.corrupt)));
    expect_near(found.empty, found.corrupt);
    expect_near(found.each[0], value(test::naive_edge_site(model, space, pairs.clean, outside,
                                                           plain(pairs.corrupt), mask, site)));
    largest = std::max(largest, (found.each[0] - found.empty).abs().max().item<double>());
  }
  EXPECT_GT(largest, 1e-6);
}

TEST(EdgeRuns, OneAfterAnotherAreTheSame) {
  for (const std::uint64_t index : {0, 1, 13, 16}) {
    const ModelConfig config = test::any_config(index);
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, 3, {.dtype = at::kDouble, .threads = 2});
    const EdgeSpace space(config);
    const Pairs pairs = test::toy_pairs(config, 9, 7, 4);
    const Mask widest = random_mask(space, 3, 60);
    for (const char* metric : {"logit_diff", "loss", "sink:1"}) {
      const EdgeRunOptions options{.metric = parse_metric(metric)};
      EdgeRunSeries series(model, space, pairs, options, widest);
      std::mt19937 random(5);
      Mask now = widest;
      for (int step = 0; step < 12; ++step) {
        // Here and there, back and forth, as no search would.
        for (int i = 0; i < 3; ++i) {
          const std::size_t edge = random() % now.size();
          now[edge] = now[edge] != 0 ? std::uint8_t{0} : widest[edge];
        }
        if (step == 6) now = random_mask(space, 9, 0);
        if (step == 7) now = widest;
        const EdgeRuns one = run_edges(model, space, {now}, pairs, options);
        expect_near(series.value(now), one.each[0]);
      }
      expect_near(series.plain().clean, run_edges(model, space, {}, pairs, options).clean);
    }
  }
  const ModelConfig config = test::any_config(0);
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  const Pairs pairs = test::toy_pairs(config, 2, 5, 4);
  EdgeRunSeries series(model, space, pairs, {}, Mask(static_cast<std::size_t>(space.edges()), 0));
  EXPECT_THROW(series.value(Mask(static_cast<std::size_t>(space.edges()), 1)), Error);
}

TEST(EdgeRuns, CountWhatWasRunOfBlocks) {
  const ModelConfig config = test::any_config(1);
  const Model model = test::toy_model(config, 3);
  const EdgeSpace space(config);
  std::vector<PairIds> list;
  for (std::int64_t b = 0; b < 2; ++b) {
    PairIds pair{.right = 1, .wrong = 2};
    for (std::int64_t t = 0; t < 6; ++t) pair.clean.push_back((b * 7 + t * 3) % config.vocab);
    pair.corrupt = pair.clean;
    pair.corrupt[2] = (pair.corrupt[2] + 1) % config.vocab;
    list.push_back(pair);
  }
  const Pairs pairs = make_pairs(list);
  const auto made = [&](const Mask& mask, const EdgeRunOptions& options) {
    const EdgeRuns found = run_edges(model, space, {mask}, pairs, options);
    return found.evaluations - found.plain_evaluations;
  };
  const Mask all(static_cast<std::size_t>(space.edges()), 1);
  // Of every position of every block: as many as there are.
  const EdgeRunOptions at_end{
      .metric = parse_metric("norm:L" + std::to_string(config.layers - 1) + ".resid_post")};
  EXPECT_EQ(made(all, at_end), 2 * 6 * config.layers);
  // From the first difference on; of the last block little but keys and values.
  EXPECT_LT(made(all, {}), 2 * 4 * config.layers);
  EXPECT_GT(made(all, {}), 2 * 4 * (config.layers - 1));
  // One MLP is less than one block.
  Mask one(all.size(), 0);
  one[static_cast<std::size_t>(space.find_edge("input->m0").value())] = 1;
  one[static_cast<std::size_t>(space.find_edge("m0->logits").value())] = 1;
  EXPECT_LT(made(one, {}), 2 * 4);
  EXPECT_GT(made(one, {}), 0);
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
  refused(space, all, pairs, {.metric = parse_metric("sink:1"), .noising = true},
          "read at the logits");
  refused(space, all, pairs, {.metric = parse_metric("sink:99")}, "layers");
  EXPECT_THROW((void)run_edges(model, space, {all}, pairs, {.metric = parse_metric("norm:L0.z")}),
               Error);
  refused(space, all, pairs, {.outside = parse_replacement("scale:0.5")}, "not scale:0.5");
  Pairs prompts = pairs;
  prompts.paired = false;
  refused(space, all, prompts, {}, "no partners");
}

}  // namespace
}  // namespace plumb
