// Experiments that are stopped, resumed and cut by pairs give what one run gives.
#include "plumb/tiles.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "plumb/attribute.h"
#include "plumb/error.h"
#include "plumb/patch.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

// More than one group of pairs: 40 x 30 positions are more than are run together.
constexpr std::int64_t count = 40;
constexpr std::int64_t length = 30;

Pairs many_pairs(const ModelConfig& config) {
  const at::Tensor ids = test::toy_tokens(config, count, length, 11).ids;
  std::vector<PairIds> pairs;
  for (std::int64_t b = 0; b < count; ++b) {
    PairIds pair{.right = b % config.vocab, .wrong = (b + 3) % config.vocab};
    for (std::int64_t t = 0; t < length - b % 3; ++t)
      pair.clean.push_back(ids[b][t].item<std::int64_t>());
    pair.corrupt = pair.clean;
    pair.corrupt[4] = (pair.corrupt[4] + 1) % config.vocab;
    pairs.push_back(pair);
  }
  return make_pairs(pairs);
}

const std::vector<SweepSpec> sweeps = {parse_sweep("resid_pre:layer,position"),
                                       parse_sweep("z:layer,head")};

class Memory : public TileStore {
 public:
  void open(const TileLayout& layout) override {
    if (opened == 0) first = layout;
    EXPECT_EQ(layout, first);
    ++opened;
  }
  std::optional<at::Tensor> find(std::int64_t tile) override {
    const auto place = kept.find(tile);
    return place == kept.end() ? std::nullopt : std::optional(place->second);
  }
  void keep(std::int64_t tile, const at::Tensor& values) override {
    EXPECT_FALSE(kept.contains(tile)) << tile;
    kept.emplace(tile, values.clone());
  }
  std::map<std::int64_t, at::Tensor> kept = {};
  TileLayout first = {};
  int opened = 0;
};

// Stops when `left` tiles are finished.
Progress stop_after(int left) {
  return [left](std::string_view, double) mutable {
    if (--left <= 0) throw Error(ErrorKind::interrupted, "enough");
  };
}

TEST(Tiles, AStoppedRunGoesOnToTheSameBits) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kFloat, .threads = 2});
  const Pairs pairs = many_pairs(config);
  const PatchReport whole = patch(model, pairs, sweeps, {.raw = true});
  Memory store;
  PatchReport resumed;
  int stops = 0;
  for (bool finished = false; !finished;) {
    const std::size_t before = store.kept.size();
    try {
      resumed =
          patch(model, pairs, sweeps, {.raw = true}, stop_after(4 + stops % 3), {.store = &store});
      finished = true;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::interrupted);
      ASSERT_GT(store.kept.size(), before);
      ++stops;
    }
  }
  EXPECT_GT(stops, 2);
  EXPECT_EQ(store.kept.size(), store.first.sizes.size());
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    EXPECT_TRUE(at::equal(resumed.sweeps[i].each, whole.sweeps[i].each));
    EXPECT_TRUE(at::equal(resumed.sweeps[i].values, whole.sweeps[i].values));
  }
  // Nothing is left to do but the plain runs.
  const PatchReport again = patch(model, pairs, sweeps, {.raw = true}, {}, {.store = &store});
  EXPECT_EQ(again.evaluations, 2 * count * length * config.layers);
  EXPECT_TRUE(at::equal(again.sweeps[0].each, whole.sweeps[0].each));
}

TEST(Tiles, AStoppedRunOfExactEdgesGoesOnToTheSameBits) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kFloat, .threads = 2});
  const Pairs pairs = many_pairs(config);
  for (const EdgeMethod method : {EdgeMethod::exact, EdgeMethod::direct}) {
    const EdgeOptions options{.method = method, .each = true};
    const EdgeReport whole = edge_report(model, pairs, {}, options);
    Memory store;
    EdgeReport resumed;
    int stops = 0;
    for (bool finished = false; !finished;) {
      const std::size_t before = store.kept.size();
      try {
        resumed =
            edge_report(model, pairs, {}, options, stop_after(3 + stops % 3), {.store = &store});
        finished = true;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::interrupted);
        ASSERT_GT(store.kept.size(), before);
        ++stops;
      }
    }
    EXPECT_GT(stops, 2);
    EXPECT_TRUE(at::equal(resumed.each, whole.each));
    EXPECT_TRUE(at::equal(resumed.scores.values, whole.scores.values));
    // What belongs to other edges is another experiment.
    Memory other;
    EdgeOptions few = options;
    few.only = {1, 5};
    EXPECT_THROW(edge_report(model, pairs, {}, few, stop_after(1), {.store = &other}), Error);
    EXPECT_NE(other.first.experiment, store.first.experiment);
    few.only = {1, 6};
    Memory third;
    EXPECT_THROW(edge_report(model, pairs, {}, few, stop_after(1), {.store = &third}), Error);
    EXPECT_NE(other.first.experiment, third.first.experiment);
  }
}

TEST(Tiles, TheFingerprintTellsExperimentsApart) {
  const ModelConfig config = test::random_config(2);
  const Pairs pairs = many_pairs(config);
  const auto fingerprint = [&](std::uint64_t seed, const Pairs& some, const PatchOptions& options,
                               const std::vector<SweepSpec>& specs) {
    Memory store;
    const Model model = test::toy_model(config, seed);
    EXPECT_THROW(patch(model, some, specs, options, stop_after(1), {.store = &store}), Error);
    return store.first.experiment;
  };
  const PatchOptions raw = {.raw = true};
  const std::string known = fingerprint(2, pairs, raw, sweeps);
  EXPECT_EQ(known, fingerprint(2, pairs, raw, sweeps));
  EXPECT_NE(known, fingerprint(3, pairs, raw, sweeps));
  EXPECT_NE(known, fingerprint(2, some_of(pairs, 0, count - 1), raw, sweeps));
  EXPECT_NE(known, fingerprint(2, pairs, {.direction = Direction::noising, .raw = true}, sweeps));
  EXPECT_NE(known, fingerprint(2, pairs, {.metric = parse_metric("prob"), .raw = true}, sweeps));
  EXPECT_NE(known, fingerprint(2, pairs, raw, {sweeps[0]}));
}

TEST(Tiles, PairsAreTheSameAloneAndAmongOthers) {
  constexpr double tolerance = 1e-10;  // float64; rows are packed differently
  const ModelConfig config = test::random_config(3);
  const Model model = test::toy_model(config, 3);
  const Pairs pairs = many_pairs(config);
  for (const char* metric : {"logit_diff", "kl"}) {
    const PatchOptions options = {.metric = parse_metric(metric), .raw = true};
    const PatchReport whole = patch(model, pairs, sweeps, options);
    for (const std::int64_t b : {std::int64_t{0}, std::int64_t{33}, count - 1}) {
      const PatchReport alone = patch(model, some_of(pairs, b, 1), sweeps, options);
      for (std::size_t i = 0; i < sweeps.size(); ++i) {
        const at::Tensor here = whole.sweeps[i].each.select(-1, b);
        EXPECT_LT((here - alone.sweeps[i].each.select(-1, 0)).abs().max().item<double>(),
                  tolerance);
      }
    }
  }
  // A custom metric is told which of all pairs a row belongs to.
  Metric number{.kind = MetricKind::custom, .name = "number"};
  number.custom = [](const at::Tensor&, const at::Tensor& pair) { return pair.to(at::kDouble); };
  const PatchReport report = patch(model, pairs, {sweeps[1]}, {.metric = number, .raw = true});
  EXPECT_TRUE(at::equal(report.sweeps[0].each[0][0], at::arange(count, at::kDouble)));
}

}  // namespace
}  // namespace plumb
