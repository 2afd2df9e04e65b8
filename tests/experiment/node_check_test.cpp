// What patching some nodes says of an estimate, against patching all of them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "plumb/attribute_nodes.h"
#include "plumb/error.h"
#include "support/naive_patch.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Float64 sums of the same numbers in another order.
constexpr double tolerance = 1e-10;

struct Toy {
  ModelConfig config = test::any_config(2);
  Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  Pairs pairs = test::toy_pairs(config, 4, 6, 9);
};

// The exact effects of all nodes of a sweep, with the sign of the scores: [nodes, B].
at::Tensor effects_of(const Toy& toy, const SweepSpec& spec, Direction direction,
                      const Metric& metric = {}) {
  const PatchOptions options{.direction = direction, .metric = metric, .raw = true};
  const at::Tensor each =
      test::naive_patch(toy.model, toy.pairs, spec, options).reshape({-1, toy.pairs.count()});
  const bool clean = direction == Direction::noising;
  const at::Tensor plain = test::naive_read(toy.model, toy.pairs, metric, clean, {});
  return clean ? plain - each : each - plain;
}

TEST(NodeCheck, AllNodesVerifiedAreWhatWholeRunsSay) {
  const Toy toy;
  const std::vector<SweepSpec> nodes = {parse_sweep("z:layer,head"), parse_sweep("k:layer,head"),
                                        parse_sweep("mlp_out:layer,position")};
  for (const Direction direction : {Direction::noising, Direction::denoising}) {
    for (const NodeMethod method : {NodeMethod::atp, NodeMethod::atp_star}) {
      NodeReport report =
          node_report(toy.model, toy.pairs, nodes, {}, {.method = method, .direction = direction});
      std::int64_t all = 0;
      std::vector<at::Tensor> exact;
      for (const NodeSweep& sweep : report.sweeps) {
        all += sweep.scores.numel();
        const at::Tensor each = effects_of(toy, sweep.spec, direction);
        exact.push_back(method == NodeMethod::atp_star ? each.abs().mean(1) : each.mean(1));
      }
      check_nodes(report, toy.model, toy.pairs,
                  {.strongest = 3, .doubtful = 4, .sampled = all - 7});
      const NodeCheck& check = *report.check;
      EXPECT_EQ(check.nodes_seen, all);
      EXPECT_EQ(check.rest, all - 7);
      EXPECT_EQ(check.may_exceed, 0);
      ASSERT_EQ(std::ssize(check.nodes), all);
      std::set<std::string> names;
      double missed = 0.0;
      for (const CheckedNode& node : check.nodes) {
        names.insert(node_name(report, node.node));
        EXPECT_NEAR(node.exact, exact[node.node.sweep][node.node.index].item<double>(), tolerance);
        EXPECT_EQ(node.score, node_score(report, node.node));
        if (node.as != CheckedAs::strongest) missed = std::max(missed, std::abs(node.exact));
      }
      EXPECT_EQ(std::ssize(names), all);
      EXPECT_EQ(std::abs(check.missed->exact), missed);
      // First order is no more than a guide on random weights of this size, but it is one.
      EXPECT_GT(check.spearman, 0.5);
    }
  }
}

TEST(NodeCheck, TheStrongestThenTheMostDoubtfulAreVerified) {
  const Toy toy;
  NodeReport report =
      node_report(toy.model, toy.pairs, {parse_sweep("q:layer,head"), parse_sweep("z:layer,head")});
  check_nodes(report, toy.model, toy.pairs, {.strongest = 2, .doubtful = 2, .sampled = 1});
  const std::vector<CheckedNode>& nodes = report.check->nodes;
  ASSERT_EQ(nodes.size(), 5U);
  const std::vector<NodeRef> strongest = strongest_nodes(report, 2);
  EXPECT_EQ(nodes[0].node, strongest[0]);
  EXPECT_EQ(nodes[1].node, strongest[1]);
  const auto doubt = [&](NodeRef node) {
    return report.sweeps[node.sweep].doubts.contiguous().view({-1})[node.index].item<double>();
  };
  for (const NodeRef& node : strongest_nodes(report, 1000)) {
    if (std::ranges::any_of(nodes, [&](const CheckedNode& own) {
          return own.node == node && own.as != CheckedAs::sampled;
        }))
      continue;
    EXPECT_LE(doubt(node), doubt(nodes[3].node));
  }
  EXPECT_GE(doubt(nodes[2].node), doubt(nodes[3].node));
}

TEST(NodeCheck, NodesThatTheMetricCannotSeeAreLeftOut) {
  const Toy toy;
  const Metric metric = parse_metric("sink:0");
  NodeReport report = node_report(
      toy.model, toy.pairs, {parse_sweep("q:layer,head"), parse_sweep("mlp_out:layer")}, metric);
  check_nodes(report, toy.model, toy.pairs, {.strongest = 100});
  EXPECT_EQ(report.check->nodes_seen, toy.config.heads);
  for (const CheckedNode& node : report.check->nodes) EXPECT_EQ(node.node.sweep, 0U);
}

TEST(NodeCheck, TheDrawBoundsHowManyMayExceedIt) {
  // By products: the chance that n drawn of N miss the k largest.
  const auto chance = [](int N, int n, int k) {
    double product = 1.0;
    for (int i = 0; i < k; ++i) product *= static_cast<double>(N - n - i) / (N - i);
    return product;
  };
  for (const int N : {20, 100, 1000}) {
    for (const int n : {1, 5, 20}) {
      const std::int64_t k = most_exceeding(N, n, 0.95);
      if (k > 0) {
        EXPECT_GT(chance(N, n, static_cast<int>(k)), 0.05 - 1e-12);
      }
      EXPECT_LE(chance(N, n, static_cast<int>(k) + 1), 0.05 + 1e-12);
    }
  }
  EXPECT_EQ(most_exceeding(30, 30, 0.95), 0);
  EXPECT_EQ(most_exceeding(30, 0, 0.95), 30);
  EXPECT_EQ(most_exceeding(0, 0, 0.95), 0);
}

// Where effects add up, the bound of random sets holds for every node, as often as it says.
TEST(NodeCheck, RandomSetsBoundEveryNodeWhereEffectsAddUp) {
  const Toy toy;
  const Metric metric = parse_metric("projection:L1.resid_post[t=2]:x", [&](const std::string&) {
    return at::arange(1, toy.config.d_model + 1, at::kDouble).sin();
  });
  const SweepSpec spec = parse_sweep("mlp_post:layer,neuron");
  const at::Tensor effects = effects_of(toy, spec, Direction::noising, metric).mean(1);
  const at::Tensor of_layer = effects.view({toy.config.layers, -1})[1];
  NodeReport report =
      node_report(toy.model, toy.pairs, {spec}, metric, {.method = NodeMethod::atp});
  // Layer 0 does not add up through what follows: its nodes are taken out of the report.
  report.sweeps[0].scores[0].fill_(std::nan(""));
  constexpr int draws = 40;
  int held = 0;
  double tightest = INFINITY;
  for (int seed = 0; seed < draws; ++seed) {
    check_nodes(report, toy.model, toy.pairs,
                {.strongest = 2,
                 .doubtful = 0,
                 .sampled = 0,
                 .sets = 16,
                 .confidence = 0.9,
                 .seed = static_cast<std::uint64_t>(seed)});
    const NodeCheck& check = *report.check;
    ASSERT_EQ(check.sets.size(), 1U);
    EXPECT_EQ(check.sets[0].nodes, of_layer.size(0) - 2);
    at::Tensor rest = of_layer.clone().abs();
    for (const CheckedNode& node : check.nodes) rest[node.node.index - of_layer.size(0)].fill_(0.0);
    const double largest = rest.max().item<double>();
    held += check.sets[0].bound >= largest ? 1 : 0;
    tightest = std::min(tightest, check.sets[0].bound / largest);
  }
  EXPECT_GE(held, draws * 9 / 10);
  // The bound is one on the root of the sum of all squares, so that it is not loose without end.
  EXPECT_LT(tightest, std::sqrt(static_cast<double>(of_layer.size(0))));
}

TEST(NodeCheck, RefusesWhatMakesNoSense) {
  const Toy toy;
  NodeReport report = node_report(toy.model, toy.pairs, {parse_sweep("z:layer,head")});
  EXPECT_THROW(check_nodes(report, toy.model, toy.pairs, {.strongest = -1}), Error);
  EXPECT_THROW(check_nodes(report, toy.model, toy.pairs, {.sets = 3}), Error);
  EXPECT_THROW(check_nodes(report, toy.model, toy.pairs, {.share = 1.0}), Error);
  EXPECT_THROW(check_nodes(report, toy.model, toy.pairs, {.confidence = 0.0}), Error);
}

}  // namespace
}  // namespace plumb
