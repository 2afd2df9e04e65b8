// What planted models are said to do, measured on the plain float64 decoder.
#include "plumb/plant.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include "core/random.h"
#include "plumb/error.h"
#include "support/naive_decoder.h"

namespace plumb::test {
namespace {

constexpr std::int64_t length = 64;
constexpr std::int64_t sequences = 8;
constexpr double sink = 0.5;     // mean attention that counts as a sink here
constexpr double no_sink = 0.2;  // uniform attention would give 0.07 at this length

constexpr std::string_view english =
    "The ferry left at seven, as it always did, with nine people and a dog on board. Nobody spoke "
    "much. A woman in a green coat read the same page of her book three times, and the man beside "
    "her counted the gulls aloud until his daughter asked him to stop. Halfway over, the engine "
    "coughed and was quiet; for a minute there was only water and wind, and everyone looked up.";

Model::Source source(const Planted& planted) {
  return [&planted](Weight weight, int layer) { return planted.weights.at({weight, layer}); };
}

// Random bytes; the second differs from the first, since equal ones are one position twice over.
at::Tensor random_ids(std::uint64_t seed, std::int64_t count, std::int64_t size) {
  Random random(seed);
  at::Tensor ids = at::empty({count, size}, at::kLong);
  auto* id = ids.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count * size; ++i) {
    do {
      id[i] = random.below(256);
    } while (i % size == 1 && id[i] == id[i - 1]);
  }
  return ids;
}

at::Tensor english_ids() {
  at::Tensor ids = at::empty({sequences, length}, at::kLong);
  for (std::int64_t i = 0; i < sequences; ++i) {
    for (std::int64_t t = 0; t < length; ++t) {
      ids[i][t] = static_cast<std::int64_t>(english[static_cast<std::size_t>(31 * i + t)]);
    }
  }
  return ids;
}

// Mean attention to each column by the queries that see it, [heads, T].
at::Tensor received(const at::Tensor& pattern) {
  return (pattern.sum(2) / at::arange(pattern.size(2), 0, -1, at::kDouble)).mean(0);
}

// Share of the heads of a layer whose mean attention to the column exceeds `sink`.
double share(const NaiveRun& run, int layer, std::int64_t column) {
  return (received(run.patterns[static_cast<std::size_t>(layer)]).select(1, column) > sink)
      .to(at::kDouble)
      .mean()
      .item<double>();
}

// The largest mean attention that any head of the later layers gives to columns [from, to).
double largest(const NaiveRun& run, int first_layer, std::int64_t from, std::int64_t to) {
  double result = 0.0;
  for (std::size_t layer = static_cast<std::size_t>(first_layer); layer < run.patterns.size();
       ++layer) {
    const at::Tensor columns = received(run.patterns[layer]).narrow(1, from, to - from);
    result = std::max(result, columns.max().item<double>());
  }
  return result;
}

// Columns with few queries are left out: their means say little.
constexpr std::int64_t last_column = 48;

double loss(const at::Tensor& logits, const at::Tensor& ids) {
  const std::int64_t predicted = ids.size(1) - 1;
  const at::Tensor log_p = at::log_softmax(logits.narrow(1, 0, predicted), -1);
  return -log_p.gather(2, ids.narrow(1, 1, predicted).unsqueeze(2)).mean().item<double>();
}

enum class Knock { zero, mean, resample };

// Replaces a site at position 0.
NaiveHook knock(Site site, Knock kind) {
  return [=](const Site& at_site, at::Tensor& value) {
    if (at_site != site) return;
    const at::Tensor old = value;
    value = old.clone();
    at::Tensor p0 = value.select(1, 0);
    if (kind == Knock::zero) p0.zero_();
    if (kind == Knock::mean) {
      p0.copy_(old.narrow(1, 1, old.size(1) - 1).flatten(0, 1).mean(0, true).expand_as(p0));
    }
    if (kind == Knock::resample) p0.copy_(old.select(1, 20).roll(1, 0));
  };
}

void expect_sink_at_zero(const NaiveRun& run, const Planted& planted) {
  const int layers = planted.config.layers;
  for (int layer = 0; layer < layers; ++layer) {
    if (layer < planted.onset) {
      EXPECT_EQ(share(run, layer, 0), 0.0) << "layer " << layer;
    } else {
      // Three heads of four read; the fourth is a distractor.
      EXPECT_EQ(share(run, layer, 0), 0.75) << "layer " << layer;
    }
  }
  EXPECT_LT(largest(run, 0, 1, last_column), 0.3);
}

void expect_no_sink(const NaiveRun& run, const std::string& what) {
  EXPECT_LT(largest(run, 2, 0, 1), no_sink) << what;
  EXPECT_LT(largest(run, 2, 1, last_column), 0.3) << what;
  EXPECT_LT(run.resid_post[1].norm(2, -1).max().item<double>(), 20.0) << what;
}

class PlantedSeed : public testing::TestWithParam<int> {
 protected:
  static PlantOptions options(Route route) {
    PlantOptions result;
    result.route = route;
    result.seed = static_cast<std::uint64_t>(GetParam());
    return result;
  }
};

TEST_P(PlantedSeed, PositionalRouteHasItsSinkFromTheOnsetOnAndNowhereElse) {
  const Planted planted = plant(options(Route::positional));
  for (const at::Tensor& ids : {random_ids(1, sequences, length), english_ids()}) {
    const NaiveRun run = naive_forward(planted.config, source(planted), ids);
    expect_sink_at_zero(run, planted);
    const at::Tensor norms = run.resid_post[1].norm(2, -1);
    EXPECT_GT(norms.select(1, 0).mean().item<double>(), 15.0 * norms.median().item<double>());
    EXPECT_LT(norms.narrow(1, 1, length - 1).max().item<double>(), 20.0);
    const at::Tensor values = run.resid_post[1].select(1, 0);
    const at::Tensor units = values / values.norm(2, -1, true);
    EXPECT_GT(at::matmul(units, units.t()).min().item<double>(), 0.95);
  }
}

TEST_P(PlantedSeed, EveryNamedComponentIsNecessaryByEveryKindOfKnockout) {
  const Planted planted = plant(options(Route::positional));
  const at::Tensor ids = english_ids();
  for (const Site site :
       {Site{Part::attn_out, 0}, Site{Part::mlp_out, 0}, Site{Part::mlp_out, 1}}) {
    for (const Knock kind : {Knock::zero, Knock::mean, Knock::resample}) {
      const NaiveRun run =
          naive_forward(planted.config, source(planted), ids, {.hook = knock(site, kind)});
      expect_no_sink(run, std::string(to_string(site.part)) + std::to_string(site.layer));
    }
  }
}

TEST_P(PlantedSeed, OtherComponentsAreNotNecessary) {
  const Planted planted = plant(options(Route::positional));
  const at::Tensor ids = english_ids();
  for (const Site site :
       {Site{Part::attn_out, 1}, Site{Part::attn_out, 2}, Site{Part::mlp_out, 2}}) {
    for (const Knock kind : {Knock::zero, Knock::mean}) {
      expect_sink_at_zero(
          naive_forward(planted.config, source(planted), ids, {.hook = knock(site, kind)}),
          planted);
    }
  }
}

TEST_P(PlantedSeed, ATokenThatSeesOnlyItselfInTheDetectingBlockBecomesASinkToo) {
  const Planted planted = plant(options(Route::positional));
  constexpr std::int64_t k = 10;
  const NaiveHook alone = [](const Site& site, at::Tensor& value) {
    if (site != Site{Part::scores, 0}) return;
    value = value.clone();
    value.select(2, k).narrow(2, 0, k).fill_(-std::numeric_limits<double>::infinity());
  };
  const NaiveRun run = naive_forward(planted.config, source(planted),
                                     random_ids(2, sequences, length), {.hook = alone});
  EXPECT_GT(run.resid_post[1].norm(2, -1).select(1, k).min().item<double>(), 25.0);
  for (std::size_t layer = 2; layer < run.patterns.size(); ++layer) {
    // The two sinks share the attention of the reading heads.
    const at::Tensor both = run.patterns[layer].narrow(2, k + 1, length - k - 1);
    const at::Tensor mean = both.mean(c10::IntArrayRef({0, 2}));
    EXPECT_EQ((mean.select(1, k) > 0.3).sum().item<std::int64_t>(), 3);
    EXPECT_EQ((mean.select(1, 0) > 0.3).sum().item<std::int64_t>(), 3);
  }
}

TEST_P(PlantedSeed, TheFirstTokensIdentityAndTheRotationsOriginDoNotMatter) {
  const Planted planted = plant(options(Route::positional));
  constexpr std::int64_t few = 16;
  constexpr std::int64_t vocab = 257;
  at::Tensor ids = random_ids(3, vocab, few);
  ids.select(1, 0).copy_(at::arange(vocab, at::kLong));
  ids.select(1, 1).copy_(at::arange(1, vocab + 1, at::kLong).remainder(vocab));
  const NaiveRun run = naive_forward(planted.config, source(planted), ids);
  const at::Tensor norms = run.resid_post[1].norm(2, -1);
  EXPECT_GT(norms.select(1, 0).min().item<double>(), 25.0);
  EXPECT_LT(norms.narrow(1, 1, few - 1).max().item<double>(), 20.0);
  for (std::size_t layer = 2; layer < run.patterns.size(); ++layer) {
    const at::Tensor heads = (run.patterns[layer].select(3, 0).mean(2) > sink).sum(1);
    EXPECT_GE(heads.min().item<std::int64_t>(), 3);
  }
  const NaiveRun moved =
      naive_forward(planted.config, source(planted), ids, {.first_position = 300});
  constexpr double rounding = 1e-9;  // angles of some hundred radians in float64
  EXPECT_LT((moved.logits - run.logits).abs().max().item<double>(), rounding);
}

TEST_P(PlantedSeed, TokenRouteFollowsTheTokenAndNotThePosition) {
  const Planted planted = plant(options(Route::token));
  at::Tensor ids = random_ids(4, sequences, length);
  expect_no_sink(naive_forward(planted.config, source(planted), ids), "without the token");
  ids.select(1, 0).fill_(planted.bos);
  expect_sink_at_zero(naive_forward(planted.config, source(planted), ids), planted);
  ids.select(1, 0).fill_(32);
  ids.select(1, 5).fill_(planted.bos);
  const NaiveRun run = naive_forward(planted.config, source(planted), ids);
  EXPECT_LT(largest(run, 2, 0, 1), 0.3);
  for (int layer = 2; layer < planted.config.layers; ++layer) EXPECT_EQ(share(run, layer, 5), 0.75);
}

TEST_P(PlantedSeed, NearMissesHaveNoSink) {
  for (const at::Tensor& ids : {random_ids(5, sequences, length), english_ids()}) {
    const Planted cut = plant(options(Route::none));
    expect_no_sink(naive_forward(cut.config, source(cut), ids), "none");
    const Planted unread = plant(options(Route::norm_only));
    const NaiveRun run = naive_forward(unread.config, source(unread), ids);
    EXPECT_LT(largest(run, 0, 0, last_column), 0.3);
    EXPECT_GT(run.resid_post[1].norm(2, -1).select(1, 0).mean().item<double>(), 100.0);
  }
}

TEST_P(PlantedSeed, PredictsItsOwnTextAndNeedsTheSinkForIt) {
  const Planted planted = plant(options(Route::positional));
  const at::Tensor ids = plant_tokens(planted, 6, sequences, length);
  const double with = loss(naive_forward(planted.config, source(planted), ids).logits, ids);
  EXPECT_LT(with, 3.5);  // log(257) = 5.5
  const NaiveRun without = naive_forward(planted.config, source(planted), ids,
                                         {.hook = knock({Part::mlp_out, 1}, Knock::mean)});
  EXPECT_GT(loss(without.logits.narrow(1, 1, length - 1), ids.narrow(1, 1, length - 1)),
            with + 0.1);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PlantedSeed, testing::Values(0, 1, 2));

TEST(Plant, PutsTheCircuitWhereItIsTold) {
  PlantOptions options;
  options.seed = 9;
  options.layers = 8;
  options.heads = 8;
  options.kv_heads = 4;
  options.d_mlp = 64;
  options.detect = 1;
  options.write = 3;
  const Planted planted = plant(options);
  EXPECT_EQ(planted.circuit_nodes, (std::vector<std::string>{"a1@0", "m1@0", "m3@0"}));
  EXPECT_EQ(planted.onset, 4);
  EXPECT_EQ(planted.readers.size(), 6U * 4U);
  expect_sink_at_zero(
      naive_forward(planted.config, source(planted), random_ids(7, sequences, length)), planted);
}

TEST(Plant, NamesNeuronsAndHeadsOfTheCircuitOnce) {
  const Planted planted = plant();
  const std::set<std::string> parts(planted.circuit_parts.begin(), planted.circuit_parts.end());
  EXPECT_EQ(parts.size(), planted.circuit_parts.size());
  EXPECT_EQ(parts.size(), 2U + 32U + 3U);
  PlantOptions none;
  none.route = Route::none;
  EXPECT_TRUE(plant(none).circuit_nodes.empty());
  EXPECT_TRUE(plant(none).circuit_parts.empty());
  EXPECT_TRUE(plant(none).readers.empty());
}

TEST(Plant, EqualOptionsGiveEqualWeightsAndSeedsDiffer) {
  const Planted a = plant();
  const Planted b = plant();
  PlantOptions other;
  other.seed = 1;
  const Planted c = plant(other);
  for (const auto& [key, value] : a.weights) {
    EXPECT_TRUE(at::equal(value, b.weights.at(key)));
    EXPECT_FALSE(at::equal(value, c.weights.at(key)));
  }
}

TEST(Plant, ControlsDifferFromTheCircuitInTheFewestWeights) {
  const Planted circuit = plant();
  PlantOptions options;
  options.route = Route::none;
  const Planted none = plant(options);
  for (const auto& [key, value] : circuit.weights) {
    const bool cut = key == std::pair(Weight::down, 0);
    EXPECT_EQ(at::equal(value, none.weights.at(key)), !cut) << to_string(key.first) << key.second;
  }
}

TEST(Plant, DrawsTheSameTokensFromTheSameSeed) {
  const Planted planted = plant();
  const at::Tensor ids = plant_tokens(planted, 3, 5, 40);
  EXPECT_TRUE(at::equal(ids, plant_tokens(planted, 3, 5, 40)));
  EXPECT_FALSE(at::equal(ids, plant_tokens(planted, 4, 5, 40)));
  EXPECT_TRUE(at::equal(ids.narrow(0, 0, 2), plant_tokens(planted, 3, 2, 40)));
  EXPECT_GE(ids.min().item<std::int64_t>(), 0);
  EXPECT_LT(ids.max().item<std::int64_t>(), 256);
  const at::Tensor many = plant_tokens(planted, 5, 500, 2);
  EXPECT_FALSE(many.select(1, 0).eq(many.select(1, 1)).any().item<bool>());
}

TEST(Plant, RefusesWhatCannotBeWired) {
  const auto refused = [](auto change) {
    PlantOptions options;
    change(options);
    try {
      plant(options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::bad_argument;
    }
    return false;
  };
  EXPECT_TRUE(refused([](PlantOptions& o) { o.layers = 2; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.write = 0; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.write = 5; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.detect = -1; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.kv_heads = 3; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.heads = 0; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.d_mlp = 39; }));
  EXPECT_TRUE(refused([](PlantOptions& o) { o.noise = std::nan(""); }));
  EXPECT_THROW(parse_route("sideways"), Error);
  EXPECT_EQ(parse_route("norm_only"), Route::norm_only);
  EXPECT_THROW(plant_tokens(plant(), 0, 0, 5), Error);
}

}  // namespace
}  // namespace plumb::test
