// Edge scores against finite differences of whole runs, and against identities.
#include "plumb/attribute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/random.h"
#include "experiment/edge_samples.h"
#include "plumb/error.h"
#include "support/naive_edge.h"
#include "support/naive_patch.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Central differences in float64 lose half of the digits.
constexpr double step = 1e-5;
constexpr double difference_tolerance = 2e-7;
// Float64 sums of the same numbers in another order.
constexpr double tolerance = 1e-11;
constexpr int edges_tried = 40;

// Minus the derivative of the metric along the sender's change, for each pair.
at::Tensor slope(const Model& model, const Pairs& pairs, const Metric& metric,
                 const EdgeSpace& space, std::int64_t edge,
                 const std::vector<Intervention>& base = {}) {
  const at::Tensor up = test::naive_edge(model, pairs, metric, space, edge, step, base);
  const at::Tensor down = test::naive_edge(model, pairs, metric, space, edge, -step, base);
  return (down - up) / (2 * step);
}

// Some of the edges, those of every kind of receiver among them.
std::vector<std::int64_t> some_edges(const EdgeSpace& space, std::uint64_t seed, int count) {
  Random random(seed);
  std::vector<std::int64_t> edges = {0, space.edges() - 1};
  for (int i = 0; i < count; ++i) edges.push_back(random.below(space.edges()));
  return edges;
}

// Whether the edge leads to a read-out of the stream of a block from what writes after it, or to an
// MLP behind a read-out of what it reads.
bool unseen(const EdgeSpace& space, std::int64_t edge, const Metric& metric) {
  const EdgeSpace::Ends ends = space.ends(edge);
  if (!reads_block(metric)) return false;
  const Site& site = metric.site.site;
  if (space.receiver(ends.receiver) == EdgeReceiver{EdgeReceiver::Kind::mlp, site.layer, -1})
    return site.part == Part::mlp_in;
  if (ends.receiver != space.receivers() - 1) return false;
  const EdgeSender sender = space.sender(ends.sender);
  if (sender.layer != site.layer) return sender.layer > site.layer;
  if (sender.kind == EdgeSender::Kind::mlp) return site.part != Part::resid_post;
  return site.part == Part::resid_pre || (site.part == Part::mlp_in && space.parallel());
}

void expect_slopes(const Model& model, const Pairs& pairs, const Metric& metric, std::uint64_t seed,
                   bool with_read_out = true) {
  SCOPED_TRACE(to_string(metric));
  const EdgeReport report = edge_report(model, pairs, metric, {.each = true});
  const EdgeSpace& space = report.scores.space;
  ASSERT_EQ(report.scores.values.sizes(), c10::IntArrayRef({space.edges()}));
  EXPECT_GT(report.scores.values.abs().max().item<double>(), 1e-4);
  for (const std::int64_t edge : some_edges(space, seed, edges_tried)) {
    const EdgeSpace::Ends ends = space.ends(edge);
    if (!with_read_out && ends.receiver == space.receivers() - 1) continue;
    // A norm over all heads is looked at as a whole below.
    const EdgeReceiver::Kind kind = space.receiver(ends.receiver).kind;
    if (model.config().qk_norm == QkNorm::whole &&
        (kind == EdgeReceiver::Kind::q || kind == EdgeReceiver::Kind::k))
      continue;
    if (unseen(space, edge, metric)) {
      EXPECT_EQ(report.each.select(1, edge).abs().max().item<double>(), 0.0);
      continue;
    }
    const at::Tensor expected = slope(model, pairs, metric, space, edge);
    const double size = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LT((report.each.select(1, edge) - expected).abs().max().item<double>(),
              difference_tolerance * size)
        << space.edge_name(edge);
  }
  EXPECT_LT((report.each.mean(0) - report.scores.values).abs().max().item<double>(), tolerance);
  EXPECT_LT(
      (report.clean - test::naive_read(model, pairs, metric, true, {})).abs().max().item<double>(),
      tolerance);
  EXPECT_LT((report.corrupt - test::naive_read(model, pairs, metric, false, {}))
                .abs()
                .max()
                .item<double>(),
            tolerance);
}

class EdgeSlopes : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, EdgeSlopes, testing::Range<std::uint64_t>(0, test::config_kinds));

TEST_P(EdgeSlopes, EapIsTheDerivativeAtTheCleanRun) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  expect_slopes(model, test::toy_pairs(config, 2, 5, GetParam() + 7), {}, GetParam());
}

// One head's projection changes the scale of all: by gradients that counts as this head's, when one
// head's queries are pasted it does not. Over all heads the two are the same.
TEST(Edges, OfANormOverAllHeadsTheSumOverHeadsIsTheDerivative) {
  const ModelConfig config = test::any_config(13);
  ASSERT_EQ(config.qk_norm, QkNorm::whole);
  const Model model = test::toy_model(config, 13, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 20);
  const EdgeReport report = edge_report(model, pairs, {}, {.each = true});
  const EdgeSpace& space = report.scores.space;
  for (const EdgeReceiver::Kind kind : {EdgeReceiver::Kind::q, EdgeReceiver::Kind::k}) {
    for (const std::int64_t sender : {0, 1}) {
      at::Tensor found = at::zeros({2}, at::kDouble);
      at::Tensor expected = at::zeros({2}, at::kDouble);
      for (int head = 0; head < (kind == EdgeReceiver::Kind::q ? config.heads : config.kv_heads);
           ++head) {
        const std::int64_t edge =
            space.first_edge(space.index_of(EdgeReceiver{kind, 1, head})) + sender;
        found += report.each.select(1, edge);
        expected += slope(model, pairs, {}, space, edge);
      }
      EXPECT_LT((found - expected).abs().max().item<double>(), difference_tolerance);
      EXPECT_GT(expected.abs().max().item<double>(), 1e-3);
    }
  }
}

class EdgeEffectsTwin : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, EdgeEffectsTwin,
                         testing::Range<std::uint64_t>(0, test::config_kinds));

TEST_P(EdgeEffectsTwin, EveryEdgeDoesWhatWholeRunsSay) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, GetParam() + 7);
  const EdgeReport exact =
      edge_report(model, pairs, {}, {.method = EdgeMethod::exact, .each = true});
  const EdgeReport direct =
      edge_report(model, pairs, {}, {.method = EdgeMethod::direct, .each = true});
  const EdgeSpace& space = exact.scores.space;
  EXPECT_TRUE(exact.scores.values.isfinite().all().item<bool>());
  EXPECT_TRUE(direct.scores.values.isfinite().all().item<bool>());
  const auto expect = [&](const at::Tensor& each, std::int64_t edge, const at::Tensor& patched) {
    EXPECT_LT((each.select(1, edge) - (exact.clean - patched)).abs().max().item<double>(),
              tolerance)
        << space.edge_name(edge);
  };
  for (const std::int64_t edge : some_edges(space, GetParam() + 50, edges_tried)) {
    expect(exact.each, edge, test::naive_edge(model, pairs, {}, space, edge, 1.0));
    expect(direct.each, edge, test::naive_direct(model, pairs, {}, space, edge));
  }
}

// Metrics of many positions, some of them before the first that differs.
TEST(Edges, DirectEffectsOnOtherMetricsAreThoseOfWholeRuns) {
  for (const std::uint64_t index : {0, 1, 2, 13, 16}) {
    const ModelConfig config = test::any_config(index);
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 3, 7, index);
    const EdgeSpace space(config);
    for (const char* name : {"loss", "kl", "loss@0,3"}) {
      SCOPED_TRACE(name);
      const Metric metric = parse_metric(name);
      const std::vector<std::int64_t> edges = some_edges(space, index, 12);
      const EdgeReport report = edge_report(
          model, pairs, metric, {.method = EdgeMethod::direct, .each = true, .only = edges});
      for (const std::int64_t edge : edges) {
        const at::Tensor expected =
            report.clean - test::naive_direct(model, pairs, metric, space, edge);
        EXPECT_LT((report.each.select(1, edge) - expected).abs().max().item<double>(), tolerance)
            << space.edge_name(edge);
      }
    }
  }
}

TEST(Edges, ExactEffectsOnOtherReadOutsAreThoseOfWholeRuns) {
  for (const std::uint64_t index : {2, 3, 15, 16, 17}) {
    const ModelConfig config = test::any_config(index);
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 2, 6, index);
    const std::string last = std::to_string(config.layers - 1);
    const std::vector<std::string> metrics = {"kl",
                                              "loss@1,2",
                                              "sink:" + last,
                                              "sink:1.0",
                                              "norm:L1.z[h=0]",
                                              "norm:L" + last + ".mlp_out",
                                              "norm:L" + last + ".resid_pre[t=1,2]",
                                              "norm:L" + last + ".mlp_in[t=1,2]",
                                              "norm:L" + last + ".resid_post[t=1,2]"};
    for (const std::string& name : metrics) {
      SCOPED_TRACE(name);
      const Metric metric = parse_metric(name);
      const EdgeSpace space(config);
      const std::vector<std::int64_t> edges = some_edges(space, index, 12);
      const EdgeReport report = edge_report(
          model, pairs, metric, {.method = EdgeMethod::exact, .each = true, .only = edges});
      for (const std::int64_t edge : edges) {
        const bool reads_stream = name.find("resid") != std::string::npos ||
                                  name.find("mlp_in") != std::string::npos || !reads_block(metric);
        const at::Tensor found = report.each.select(1, edge);
        const bool to_read_out = space.ends(edge).receiver == space.receivers() - 1;
        if ((to_read_out && !reads_stream) || unseen(space, edge, metric)) {
          EXPECT_EQ(found.abs().max().item<double>(), 0.0);
          continue;
        }
        const at::Tensor expected =
            report.clean - test::naive_edge(model, pairs, metric, space, edge, 1.0);
        EXPECT_LT((found - expected).abs().max().item<double>(), tolerance)
            << space.edge_name(edge);
      }
      const at::Tensor asked = at::tensor(edges, at::kLong);
      EXPECT_TRUE(report.scores.values.index_select(0, asked).isfinite().all().item<bool>());
      EXPECT_EQ(report.scores.values.isfinite().sum().item<std::int64_t>(),
                static_cast<std::int64_t>(std::set(edges.begin(), edges.end()).size()));
    }
  }
}

TEST(Edges, AgreementIsThatOfRanksAndValues) {
  const EdgeSpace space(1, 1, 1);
  ASSERT_EQ(space.edges(), 8);
  const double none = std::nan("");
  const EdgeScores a{.space = space,
                     .values = at::tensor({1., 2., 3., 4., none, 0., -9., 5.}, at::kDouble)};
  const EdgeScores b{.space = space,
                     .values = at::tensor({2., 4., 6., 8., 1., 0., -18., none}, at::kDouble)};
  const EdgeAgreement same = compare(a, b, 2);
  EXPECT_EQ(same.edges, 6);
  EXPECT_NEAR(same.pearson, 1.0, tolerance);
  EXPECT_NEAR(same.spearman, 1.0, tolerance);
  EXPECT_EQ(same.overlap, 1.0);
  // Ranks 0, 1.5, 1.5, 3 against 3, 1, 2, 0.
  EdgeScores c{.space = space,
               .values = at::tensor({0., 1., 1., 5., none, none, none, none}, at::kDouble)};
  EdgeScores d{.space = space,
               .values = at::tensor({3., 1., 2., 0., none, none, none, none}, at::kDouble)};
  const EdgeAgreement other = compare(c, d, 1);
  EXPECT_NEAR(other.spearman, -4.5 / std::sqrt(4.5 * 5.0), tolerance);
  EXPECT_EQ(other.overlap, 0.0);
  EXPECT_TRUE(
      std::isnan(compare(c, {.space = space, .values = at::ones({8}, at::kDouble)}, 1).pearson));
}

TEST(Edges, OtherMetricsOfTheLogitsHaveTheirDerivatives) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 6, 3);
  for (const char* metric : {"log_prob", "prob", "prob_diff", "loss", "loss@1,2"})
    expect_slopes(model, pairs, parse_metric(metric), 5);
  Metric custom{.kind = MetricKind::custom, .name = "spread"};
  custom.custom = [](const at::Tensor& logits, const at::Tensor&) { return logits.std(1); };
  EXPECT_GT(attribute_edges(model, pairs, custom).values.abs().max().item<double>(), 0.0);
}

TEST(Edges, ReadOutsInABlockHaveTheirDerivatives) {
  for (const std::uint64_t index : {2, 3, 15, 16, 17}) {
    const ModelConfig config = test::any_config(index);
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 2, 6, index);
    const std::string last = std::to_string(config.layers - 1);
    // Of attention and of writes, the read-out is made of what heads and MLPs read.
    const std::vector<std::string> made_by_components = {
        "sink:" + last, "sink:1.0", "norm:L1.z[h=0]", "norm:L" + last + ".mlp_out"};
    for (const std::string& metric : made_by_components)
      expect_slopes(model, pairs, parse_metric(metric), index, false);
    for (const char* part : {"resid_pre", "resid_mid", "mlp_in", "resid_post"})
      expect_slopes(model, pairs, parse_metric("norm:L" + last + "." + part + "[t=1,2]"), index);
  }
}

// The token embeddings, or one component's write, on the way from corrupt to clean.
Intervention between(const Model& model, const Pairs& pairs, Site site, double clean) {
  const at::Tensor own = run(model, pairs.clean, {.record = {site}}).cache.at(site);
  const Intervention other =
      test::naive_edit(model, pairs, {.site = site}, {}, Direction::noising, {});
  return {site, {}, Put{clean * own + (1.0 - clean) * std::get<Put>(other.edit).value}};
}

TEST(Edges, IntegratedScoresAreMeansOfDerivativesAlongTheWay) {
  for (const std::uint64_t index : {1, 2}) {
    const ModelConfig config = test::any_config(index);
    const Model model = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 2, 5, index);
    const EdgeSpace space(config);
    for (const IgPoints points :
         {IgPoints::left, IgPoints::right, IgPoints::midpoint, IgPoints::trapezoid}) {
      const EdgeOptions options{.method = EdgeMethod::eap_ig, .steps = 3, .points = points};
      const at::Tensor found = attribute_edges(model, pairs, {}, options).values;
      for (const std::int64_t edge : some_edges(space, index, 8)) {
        double expected = 0.0;
        for (const IgPoint& point : ig_points(points, 3)) {
          const auto base = between(model, pairs, {Part::embed}, point.clean);
          expected +=
              point.weight * slope(model, pairs, {}, space, edge, {base}).mean().item<double>();
        }
        EXPECT_NEAR(found[edge].item<double>(), expected,
                    difference_tolerance * std::max(1.0, std::abs(expected)))
            << space.edge_name(edge) << " " << to_string(points);
      }
    }
    const EdgeOptions options{.method = EdgeMethod::eap_ig_activations, .steps = 2};
    const at::Tensor found = attribute_edges(model, pairs, {}, options).values;
    std::vector<Site> components = {{Part::embed}};
    for (int layer = 0; layer < config.layers; ++layer) {
      components.push_back({Part::attn_out, layer});
      components.push_back({Part::mlp_out, layer});
    }
    for (const std::int64_t edge : some_edges(space, index, 4)) {
      double expected = 0.0;
      for (const Site& site : components) {
        for (const double clean : {0.5, 1.0}) {
          expected += slope(model, pairs, {}, space, edge, {between(model, pairs, site, clean)})
                          .mean()
                          .item<double>();
        }
      }
      expected /= 2.0 * static_cast<double>(components.size());
      EXPECT_NEAR(found[edge].item<double>(), expected,
                  difference_tolerance * std::max(1.0, std::abs(expected)))
          << space.edge_name(edge);
    }
  }
}

TEST(Edges, PointsOfIntegrationAreThoseNamed) {
  const auto clean = [](IgPoints points) {
    std::vector<double> shares;
    double weight = 0.0;
    for (const IgPoint& point : ig_points(points, 2)) {
      shares.push_back(point.clean);
      weight += point.weight;
    }
    EXPECT_NEAR(weight, 1.0, tolerance);
    return shares;
  };
  EXPECT_EQ(clean(IgPoints::left), (std::vector<double>{0.0, 0.5}));
  EXPECT_EQ(clean(IgPoints::right), (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(clean(IgPoints::midpoint), (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(clean(IgPoints::trapezoid), (std::vector<double>{0.0, 0.5, 1.0}));
}

TEST(Edges, CleanCorruptedIsTheMeanOfBothEnds) {
  const ModelConfig config = test::any_config(1);
  const Model model = test::toy_model(config, 1, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 5, 1);
  const EdgeOptions options{.method = EdgeMethod::clean_corrupted};
  const at::Tensor found = attribute_edges(model, pairs, {}, options).values;
  const at::Tensor ends =
      attribute_edges(model, pairs, {},
                      {.method = EdgeMethod::eap_ig, .steps = 1, .points = IgPoints::trapezoid})
          .values;
  EXPECT_LT((found - ends).abs().max().item<double>(), tolerance);
}

// What is linear in an edge is found exactly: the stream is the sum of what was written to it.
TEST(Edges, OfALinearReadOutTheScoresSumToTheWholeEffect) {
  for (const std::uint64_t index : {1, 2, 13, 16}) {
    const ModelConfig config = test::any_config(index);
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 3, 6, index);
    Metric metric = parse_metric("norm:L" + std::to_string(config.layers - 1) + ".resid_post[t=3]");
    metric.kind = MetricKind::projection;
    metric.direction = at::linspace(-1, 2, config.d_model, at::kDouble);
    const EdgeReport report = edge_report(model, pairs, metric, {.each = true});
    const EdgeSpace& space = report.scores.space;
    const at::Tensor sums =
        report.each.narrow(1, space.first_edge(space.receivers() - 1), space.senders()).sum(1);
    EXPECT_LT((sums - (report.clean - report.corrupt)).abs().max().item<double>(), tolerance);
  }
}

// Integrated along the embeddings, what leaves the input is the whole effect.
TEST(Edges, IntegratedScoresOfTheInputSumToTheWholeEffect) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 4);
  const EdgeReport report = edge_report(
      model, pairs, {}, {.method = EdgeMethod::eap_ig, .steps = 200, .points = IgPoints::midpoint});
  const EdgeSpace& space = report.scores.space;
  double sum = 0.0;
  for (std::int64_t r = 0; r < space.receivers(); ++r)
    sum += report.scores.values[space.first_edge(r)].item<double>();
  const double whole = report.clean_mean.mean - report.corrupt_mean.mean;
  // The midpoint rule's error falls with the square of the steps.
  EXPECT_NEAR(sum, whole, 1e-3 * std::abs(whole));
}

TEST(Edges, ScoresByPositionSumToTheScores) {
  const ModelConfig config = test::any_config(4);
  const Model model = test::toy_model(config, 4, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 6, 4);
  const at::Tensor whole = attribute_edges(model, pairs).values;
  const EdgeScores by_position = attribute_edges(model, pairs, {}, {.by_position = true});
  ASSERT_EQ(by_position.values.sizes(), c10::IntArrayRef({6, by_position.space.edges()}));
  EXPECT_LT((by_position.values.sum(0) - whole).abs().max().item<double>(), tolerance);
  // Nothing differs before the first changed token.
  EXPECT_EQ(by_position.values[0].abs().max().item<double>(), 0.0);
  EXPECT_GT(by_position.values[1].abs().max().item<double>(), 0.0);
}

TEST(Edges, AKeyHeadsEdgesAreTheSumOverItsGroup) {
  ModelConfig config = test::any_config(0);
  config.heads = 4;
  config.kv_heads = 2;
  const Model grouped = test::toy_model(config, 5, {.dtype = at::kDouble, .threads = 1});
  ModelConfig wide = config;
  wide.kv_heads = 4;
  const auto ungroup = [&](Weight weight, int layer) {
    const at::Tensor value = grouped.weight(weight, layer);
    const bool keys = weight == Weight::k || weight == Weight::v || weight == Weight::k_bias ||
                      weight == Weight::v_bias;
    if (!keys || !value.defined()) return value;
    std::vector<std::int64_t> shape = value.sizes().vec();
    shape.front() *= 2;
    return value.view({2, config.d_head, -1}).repeat_interleave(2, 0).reshape(shape);
  };
  const Model ungrouped(wide, ungroup, "ungrouped", {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 6, 5);
  const EdgeScores few = attribute_edges(grouped, pairs);
  const EdgeScores many = attribute_edges(ungrouped, pairs);
  at::Tensor sums = at::zeros_like(few.values);
  for (std::int64_t edge = 0; edge < many.space.edges(); ++edge) {
    const EdgeSpace::Ends ends = many.space.ends(edge);
    EdgeReceiver receiver = many.space.receiver(ends.receiver);
    if (receiver.kind == EdgeReceiver::Kind::k || receiver.kind == EdgeReceiver::Kind::v)
      receiver.head /= 2;
    sums[few.space.first_edge(few.space.index_of(receiver)) + ends.sender] += many.values[edge];
  }
  EXPECT_GT(sums.abs().max().item<double>(), 1e-3);
  EXPECT_LT((sums - few.values).abs().max().item<double>(), tolerance);
}

TEST(Edges, PairsScoreTheSameAloneAndAmongOthers) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 2});
  const Pairs pairs = test::toy_pairs(config, 13, 7, 3);
  for (const EdgeMethod method :
       {EdgeMethod::eap, EdgeMethod::eap_ig, EdgeMethod::exact, EdgeMethod::direct}) {
    const EdgeOptions options{.method = method, .each = true};
    const at::Tensor whole = edge_report(model, pairs, {}, options).each;
    const double largest = whole.abs().max().item<double>();
    for (const auto& [first, count] : {std::pair(0, 1), std::pair(2, 5), std::pair(12, 1)}) {
      const at::Tensor own = edge_report(model, some_of(pairs, first, count), {}, options).each;
      EXPECT_LT((own - whole.narrow(0, first, count)).abs().max().item<double>(),
                tolerance * largest)
          << to_string(method);
    }
  }
}

// Whether the BLAS here gives a row of a float64 product the same bits however many rows there are,
// as long as they fill its kernels. None promises it.
constexpr std::int64_t rows_of_kernels = 8;
bool rows_stand_alone(std::int64_t width) {
  const at::Tensor rows = at::randn({128, width}, at::kDouble);
  const at::Tensor weights = at::randn({4 * width, width}, at::kDouble);
  const at::Tensor whole = rows.mm(weights.t());
  for (std::int64_t count = rows_of_kernels; count < rows.size(0); count += rows_of_kernels) {
    if (!at::equal(rows.narrow(0, 0, count).mm(weights.t()), whole.narrow(0, 0, count)))
      return false;
  }
  return true;
}

TEST(Edges, PairsAreAddedInTheirOrder) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 2});
  const Pairs pairs = test::toy_pairs(config, 41, 7, 3);  // several tiles
  for (const EdgeMethod method : {EdgeMethod::eap, EdgeMethod::eap_ig}) {
    EdgeOptions options{.method = method, .steps = 2};
    const at::Tensor scores = attribute_edges(model, pairs, {}, options).values;
    options.each = true;
    const EdgeReport report = edge_report(model, pairs, {}, options);
    at::Tensor sum = at::zeros_like(scores);
    for (std::int64_t pair = 0; pair < pairs.count(); ++pair) sum += report.each[pair];
    EXPECT_TRUE(at::equal(sum / static_cast<double>(pairs.count()), scores));
    EXPECT_TRUE(at::equal(report.scores.values, scores));
  }
}

TEST(Edges, PairsThatFillKernelsHaveTheSameBitsAmongAnyOthers) {
  for (const std::uint64_t index : {0, 1, 2, 16}) {
    const ModelConfig config = test::any_config(index);
    // A BLAS that rounds a row by how many stand beside it leaves what other splits always have.
    const double allowed = rows_stand_alone(config.d_model) ? 0.0 : tolerance;
    SCOPED_TRACE(config.family);
    const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 2});
    const Pairs pairs = test::toy_pairs(config, 41, rows_of_kernels, 3);  // several tiles
    const EdgeOptions options{.method = EdgeMethod::eap_ig, .steps = 2, .each = true};
    const at::Tensor whole = edge_report(model, pairs, {}, options).each;
    for (const auto& [first, count] : {std::pair(0, 1), std::pair(2, 5), std::pair(17, 24)}) {
      const at::Tensor own = edge_report(model, some_of(pairs, first, count), {}, options).each;
      const double change = (own - whole.narrow(0, first, count)).abs().max().item<double>();
      EXPECT_LE(change, allowed * whole.abs().max().item<double>()) << first << " " << count;
    }
  }
}

TEST(Edges, BitsDoNotDependOnThreads) {
  const ModelConfig config = test::any_config(2);
  const Pairs pairs = test::toy_pairs(config, 23, 9, 2);  // several tiles
  for (const EdgeOptions& options :
       {EdgeOptions{}, EdgeOptions{.method = EdgeMethod::eap_ig, .steps = 2, .by_position = true},
        EdgeOptions{.each = true}, EdgeOptions{.method = EdgeMethod::direct},
        EdgeOptions{.method = EdgeMethod::exact, .only = {0, 3, 40, 41}}}) {
    std::vector<EdgeReport> reports;
    for (const int threads : {1, 2, 4}) {
      const Model model = test::toy_model(config, 2, {.dtype = at::kFloat, .threads = threads});
      reports.push_back(edge_report(model, pairs, {}, options));
    }
    for (const EdgeReport& report : reports) {
      EXPECT_TRUE(
          at::equal(report.scores.values.nan_to_num(), reports.front().scores.values.nan_to_num()));
      if (!options.each) continue;
      EXPECT_TRUE(at::equal(report.each, reports.front().each));
    }
  }
}

TEST(Edges, AreMeansOverPairsHoweverTheseAreSplit) {
  const ModelConfig config = test::any_config(3);
  const Model model = test::toy_model(config, 3, {.dtype = at::kDouble, .threads = 2});
  const Pairs pairs = test::toy_pairs(config, 7, 6, 3);
  const at::Tensor whole = attribute_edges(model, pairs).values;
  const at::Tensor first = attribute_edges(model, some_of(pairs, 0, 3)).values;
  const at::Tensor rest = attribute_edges(model, some_of(pairs, 3, 4)).values;
  EXPECT_LT(((3 * first + 4 * rest) / 7 - whole).abs().max().item<double>(), tolerance);
}

TEST(Edges, FollowAMapBetweenPositions) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = make_pairs({{.clean = {1, 2, 3, 4, 5},
                                   .corrupt = {1, 7, 8, 3, 4, 6},
                                   .right = 4,
                                   .wrong = 9,
                                   .align = {{0, 0}, {1, 2}, {2, 3}, {3, 4}, {4, 5}}},
                                  {.clean = {3, 2, 9, 4, 5},
                                   .corrupt = {3, 7, 8, 9, 4, 5},
                                   .right = 2,
                                   .wrong = 1,
                                   .align = {{0, 0}, {1, 1}, {2, 3}, {4, 5}}}});
  expect_slopes(model, pairs, {}, 11);
}

TEST(Edges, WhatCannotBeScoredIsRefusedByName) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2);
  const Pairs pairs = test::toy_pairs(config, 2, 5, 2);
  const auto said = [&](const Pairs& of, const Metric& metric, const EdgeOptions& options) {
    try {
      attribute_edges(model, of, metric, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const auto names = [&](const std::string& text, const char* word) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  names(said(pairs, parse_metric("rank"), {}), "rank has no gradient");
  names(said(pairs, {}, {.method = EdgeMethod::eap_ig, .steps = 0}), "1 to 1000 steps");
  names(said(pairs, {}, {.by_position = true, .each = true}), "without them");
  Metric blind{.kind = MetricKind::custom, .name = "blind"};
  blind.custom = [](const at::Tensor& logits, const at::Tensor&) {
    return at::zeros({logits.size(0)}, at::kDouble);
  };
  names(said(pairs, blind, {}), "\"blind\" has no gradient");
  names(said(make_pairs({{.clean = {1, 2}, .right = 1, .wrong = 2}}), {}, {}), "no partners");
  EXPECT_THROW(parse_edge_method("eapig"), Error);
  names(said(pairs, {}, {.only = {1}}), "only direct and exact");
  names(said(pairs, {}, {.method = EdgeMethod::exact, .only = {1 << 20}}), "is none");
  names(said(pairs, {}, {.method = EdgeMethod::direct, .by_position = true}), "only estimates");
  names(said(pairs, parse_metric("sink:1"), {.method = EdgeMethod::direct}), "take exact");
  for (const char* name :
       {"eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "direct", "exact"})
    EXPECT_EQ(std::string(to_string(parse_edge_method(name))), name);
}

}  // namespace
}  // namespace plumb
