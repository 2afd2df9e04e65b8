// Node scores against finite differences of whole runs, and against patching where that is linear.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"
#include "plumb/attribute_nodes.h"
#include "plumb/error.h"
#include "support/naive_patch.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Central differences in float64 lose half of the digits.
constexpr double step = 1e-5;
constexpr double difference_tolerance = 3e-7;
// Float64 sums of the same numbers in another order.
constexpr double tolerance = 1e-10;
// What 96 steps leave, as a share of the largest effect: softmaxes of the toy weights are steep,
// and the square of the step is what the error is measured by. 0.033 was the most when this was
// written.
constexpr double integration_tolerance = 0.05;

Metric metric_of(const std::string& text, std::int64_t width = 0) {
  return parse_metric(text, [width](const std::string&) {
    return at::arange(1, width + 1, at::kDouble).sin() + 0.3;
  });
}

std::vector<SweepSpec> sweeps_of(const ModelConfig& config, const std::vector<std::string>& texts) {
  std::vector<SweepSpec> sweeps;
  for (const std::string& text : texts) {
    const SweepSpec spec = parse_sweep(text);
    bool there = false;
    for (int layer = 0; layer < config.layers; ++layer)
      there = there || has_part(config, spec.part, layer);
    if (there) sweeps.push_back(spec);
  }
  return sweeps;
}

const std::vector<std::string> every_kind = {"z:layer,head",
                                             "v:head,layer",
                                             "q:layer,head",
                                             "k:layer,position,head",
                                             "attn_out:layer",
                                             "mlp_out:layer",
                                             "resid_mid:layer",
                                             "mlp_post:layer,neuron",
                                             "expert_out:layer,expert",
                                             "shared_out:layer",
                                             "pattern:layer,head,query",
                                             "z_gate:layer,head",
                                             "resid_pre:layer,position",
                                             "resid_post:layer"};

bool clean_base(Direction direction) { return direction == Direction::noising; }

// A site's value in the other run less that in the base run.
at::Tensor change_of(const Model& model, const Pairs& pairs, Site site, Direction direction) {
  const auto value = [&](const Tokens& tokens) {
    return run(model, tokens, {.record = {site}}).cache.at(site);
  };
  const bool clean = clean_base(direction);
  return value(clean ? pairs.corrupt : pairs.clean) - value(clean ? pairs.clean : pairs.corrupt);
}

// The node as a mask of its site's tensor: 1 where it is.
at::Tensor mask_of(const NodeSweep& sweep, std::int64_t index, const at::Tensor& like) {
  at::Tensor mask = at::ones_like(like);
  std::int64_t rest = index;
  for (std::size_t axis = sweep.spec.axes.size(); axis-- > 0;) {
    const std::int64_t size = sweep.scores.size(static_cast<std::int64_t>(axis));
    const std::int64_t place = rest % size;
    rest /= size;
    if (sweep.spec.axes[axis] == SweepAxis::layer) continue;
    std::int64_t dim = 0;
    for (const Axis own : axes(sweep.spec.part)) {
      const SweepAxis wanted = sweep.spec.axes[axis];
      const bool is = ((wanted == SweepAxis::position || wanted == SweepAxis::query) &&
                       (own == Axis::position || own == Axis::query)) ||
                      (wanted == SweepAxis::head && (own == Axis::head || own == Axis::kv_head)) ||
                      (wanted == SweepAxis::neuron && own == Axis::d_mlp) ||
                      (wanted == SweepAxis::expert && own == Axis::expert);
      if (is) {
        const at::Tensor kept = mask.narrow(dim, place, 1).clone();
        mask.zero_();
        mask.narrow(dim, place, 1).copy_(kept);
      }
      ++dim;
    }
  }
  return mask;
}

int layer_of(const NodeSweep& sweep, std::int64_t index) {
  std::int64_t behind = 1;
  for (std::size_t axis = sweep.spec.axes.size(); axis-- > 0;) {
    const std::int64_t size = sweep.scores.size(static_cast<std::int64_t>(axis));
    if (sweep.spec.axes[axis] == SweepAxis::layer) return static_cast<int>(index / behind % size);
    behind *= size;
  }
  return -1;
}

// The derivative of the metric along the node's change, with the sign of the scores. `frozen`: a
// block whose writes keep the base run's values.
at::Tensor slope(const Model& model, const Pairs& pairs, const Metric& metric, Site site,
                 const at::Tensor& along, Direction direction, int frozen = -1) {
  const bool clean = clean_base(direction);
  const Tokens& tokens = clean ? pairs.clean : pairs.corrupt;
  const auto read = [&](double size) {
    Plan plan{.interventions = {{.site = site, .edit = Add{along * size}}}};
    if (frozen >= 0) {
      for (const Part part : {Part::attn_out, Part::mlp_out}) {
        const Site write{part, frozen};
        plan.interventions.push_back(
            {.site = write, .edit = Put{run(model, tokens, {.record = {write}}).cache.at(write)}});
      }
    }
    return test::naive_read(model, pairs, metric, clean, plan);
  };
  return (read(step) - read(-step)) / (2 * step) * (clean ? -1.0 : 1.0);
}

bool out_of_sight(const Metric& metric, Site site) {
  if (!reads_block(metric)) return false;
  const Site& read = metric.site.site;
  return site.layer > read.layer || (site.layer == read.layer && site.part > read.part);
}

void expect_slopes(const Model& model, const Pairs& pairs, const Metric& metric,
                   Direction direction, std::uint64_t seed, int tried) {
  SCOPED_TRACE(to_string(metric) + " " + to_string(direction));
  const std::vector<SweepSpec> nodes = sweeps_of(model.config(), every_kind);
  const NodeReport report =
      node_report(model, pairs, nodes, metric,
                  {.method = NodeMethod::atp, .direction = direction, .each = true});
  Random random(seed);
  double largest = 0.0;
  for (std::size_t number = 0; number < report.sweeps.size(); ++number) {
    const NodeSweep& sweep = report.sweeps[number];
    const at::Tensor each = sweep.each.view({-1, pairs.count()});
    for (int i = 0; i < tried; ++i) {
      const std::int64_t index = random.below(each.size(0));
      const NodeRef node{.sweep = number, .index = index};
      const Site site{sweep.spec.part, layer_of(sweep, index)};
      if (!has_part(model.config(), site.part, site.layer)) {
        EXPECT_TRUE(each[index].isnan().all().item<bool>());
        continue;
      }
      if (out_of_sight(metric, site)) {
        EXPECT_EQ(each[index].abs().max().item<double>(), 0.0) << node_name(report, node);
        continue;
      }
      const at::Tensor change = change_of(model, pairs, site, direction);
      const at::Tensor expected =
          slope(model, pairs, metric, site, change * mask_of(sweep, index, change), direction);
      const double size = std::max(1.0, expected.abs().max().item<double>());
      EXPECT_LT((each[index] - expected).abs().max().item<double>(), difference_tolerance * size)
          << node_name(report, node);
      largest = std::max(largest, expected.abs().max().item<double>());
      EXPECT_NEAR(node_score(report, node), each[index].mean().item<double>(), tolerance);
    }
  }
  EXPECT_GT(largest, 1e-4);
}

class NodeSlopes : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, NodeSlopes, testing::Range<std::uint64_t>(0, test::config_kinds));

TEST_P(NodeSlopes, AtpIsTheDerivativeAtTheBaseRun) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, GetParam() + 7);
  for (const Direction direction : {Direction::noising, Direction::denoising})
    expect_slopes(model, pairs, {}, direction, GetParam(), 2);
}

TEST(Nodes, AtpIsTheDerivativeOfEveryMetric) {
  for (const std::uint64_t seed : {2, 3}) {
    const ModelConfig config = test::any_config(seed);
    const Model model = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 3, 6, seed + 7);
    for (const char* text : {"log_prob", "prob_diff", "loss", "sink:1", "norm:L1.resid_mid[t=2]"}) {
      for (const Direction direction : {Direction::noising, Direction::denoising})
        expect_slopes(model, pairs, metric_of(text), direction, seed, 2);
    }
    // At the clean run itself the divergence from it has no slope.
    for (const char* text : {"kl", "js"})
      expect_slopes(model, pairs, metric_of(text), Direction::denoising, seed, 2);
  }
}

// What patching does, with the sign of the scores: [nodes, B].
at::Tensor exact_effects(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                         const Metric& metric, Direction direction) {
  const PatchReport exact =
      patch(model, pairs, {spec}, {.direction = direction, .metric = metric, .raw = true});
  const at::Tensor each = exact.sweeps.front().each.reshape({-1, pairs.count()});
  return clean_base(direction) ? exact.clean - each : each - exact.corrupt;
}

void expect_exact(const Model& model, const Pairs& pairs, const std::vector<std::string>& texts,
                  const Metric& metric, NodeMethod method) {
  const std::vector<SweepSpec> nodes = sweeps_of(model.config(), texts);
  for (const Direction direction : {Direction::noising, Direction::denoising}) {
    const NodeReport report = node_report(model, pairs, nodes, metric,
                                          {.method = method, .direction = direction, .each = true});
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      SCOPED_TRACE(to_string(nodes[i]) + " " + to_string(direction));
      const at::Tensor exact = exact_effects(model, pairs, nodes[i], metric, direction);
      const at::Tensor found = report.sweeps[i].each.reshape({-1, pairs.count()});
      const int layer = metric.site.site.layer;
      for (std::int64_t node = 0; node < found.size(0); ++node) {
        if (layer_of(report.sweeps[i], node) != layer ||
            !has_part(model.config(), nodes[i].part, layer))
          continue;
        EXPECT_LT((found[node] - exact[node]).abs().max().item<double>(), tolerance)
            << node_name(report, {.sweep = i, .index = node});
      }
      EXPECT_GT(exact.abs().nan_to_num().max().item<double>(), 1e-4);
    }
  }
}

class NodesExact : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, NodesExact, testing::Range<std::uint64_t>(0, test::config_kinds));

// z is linear in its pattern and its values.
TEST_P(NodesExact, QueriesKeysAndValuesWhereWhatFollowsIsLinear) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 6, GetParam() + 7);
  const Metric metric = metric_of("projection:L1.z[t=2,3]:x", config.d_head);
  expect_exact(model, pairs, {"v:layer,head", "v:layer,position"}, metric, NodeMethod::atp);
  expect_exact(model, pairs,
               {"q:layer,head", "q:layer,position", "k:layer,head", "k:layer",
                "k:layer,position,head", "k:position,layer"},
               metric, NodeMethod::atp_qk);
}

TEST(Nodes, AtpIsExactWhereThePathIsLinear) {
  for (const std::uint64_t seed : {0, 3, 6}) {
    const ModelConfig config = test::any_config(seed);
    const Model model = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 3, 6, seed + 7);
    const std::vector<std::string> texts = {"mlp_out:layer,position", "mlp_post:layer,neuron",
                                            "expert_out:layer,expert", "shared_out:layer"};
    expect_exact(model, pairs, texts, metric_of("projection:L1.resid_post[t=2]:x", config.d_model),
                 NodeMethod::atp);
    expect_exact(model, pairs, {"z:layer,head", "attn_out:layer,position"},
                 metric_of("projection:L1.resid_mid[t=2]:x", config.d_model), NodeMethod::atp);
  }
}

TEST(Nodes, PromptsThatAMapAlignsAreComparedWhereTheyBelongTogether) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = make_pairs({{.clean = {1, 2, 3, 4, 5},
                                   .corrupt = {1, 7, 8, 3, 4, 5},
                                   .right = 1,
                                   .wrong = 2,
                                   .align = {{0, 0}, {1, 1}, {2, 3}, {3, 4}, {4, 5}}}});
  const Metric metric = metric_of("projection:L1.z[t=4]:x", config.d_head);
  expect_exact(model, pairs, {"v:layer,head"}, metric, NodeMethod::atp);
  expect_exact(model, pairs, {"q:layer,head", "k:layer,position"}, metric, NodeMethod::atp_qk);
  EXPECT_THROW(node_report(model, pairs, {parse_sweep("pattern:layer")}), Error);
  const NodeReport report = node_report(model, pairs, {parse_sweep("resid_pre:layer")}, {},
                                        {.method = NodeMethod::ig_inputs});
  EXPECT_TRUE(report.sweeps[0].scores.isfinite().all().item<bool>());
}

// GradDrop by its definition: a block whose writes keep their values passes no gradient on.
TEST(Nodes, GradDropIsTheMeanOfDerivativesWithOneBlockFrozen) {
  for (const std::uint64_t seed : {2, 7}) {
    ModelConfig config = test::any_config(seed);
    config.layers = 3;
    const Model model = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 2, 5, seed + 7);
    for (const char* text : {"logit_diff", "sink:2"}) {
      const Metric metric = metric_of(text);
      const std::vector<SweepSpec> nodes =
          sweeps_of(config, {"z:layer,head", "v:layer,head", "q:layer,head", "k:layer,head",
                             "attn_out:layer", "mlp_out:layer", "resid_pre:layer"});
      const NodeReport report = node_report(model, pairs, nodes, metric);
      const int depth = reads_block(metric) ? 3 : config.layers;
      for (std::size_t number = 0; number < nodes.size(); ++number) {
        const NodeSweep& sweep = report.sweeps[number];
        for (std::int64_t index = 0; index < sweep.scores.numel(); ++index) {
          const NodeRef node{.sweep = number, .index = index};
          Site site{sweep.spec.part, layer_of(sweep, index)};
          if (out_of_sight(metric, site)) continue;
          SCOPED_TRACE(node_name(report, node));
          const int layer = site.layer;
          at::Tensor along = change_of(model, pairs, site, Direction::noising);
          along = along * mask_of(sweep, index, along);
          if (site.part == Part::q || site.part == Part::k) {
            // The pattern by this head's other queries or keys.
            const Site pattern{Part::pattern, site.layer};
            const auto pattern_under = [&](const at::Tensor& added) {
              return run(model, pairs.clean,
                         {.record = {pattern},
                          .interventions = {{.site = site, .edit = Add{added}}}})
                  .cache.at(pattern);
            };
            along = pattern_under(along) - pattern_under(at::zeros_like(along));
            site = pattern;
          }
          at::Tensor sum = at::zeros({pairs.count()}, at::kDouble);
          int count = 0;
          for (int dropped = 0; dropped < depth; ++dropped) {
            if (dropped == layer && sweep.spec.part != Part::resid_pre) continue;
            sum += slope(model, pairs, metric, site, along, Direction::noising, dropped).abs();
            ++count;
          }
          EXPECT_NEAR(node_score(report, node), sum.mean().item<double>() / count,
                      difference_tolerance);
        }
      }
    }
  }
}

TEST(Nodes, WithoutOtherBlocksGradDropIsTheAbsoluteEstimate) {
  ModelConfig config = test::any_config(2);
  config.layers = 1;
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 6, 9);
  const NodeReport star = node_report(model, pairs, {parse_sweep("k:layer,head")});
  const NodeReport fixed = node_report(model, pairs, {parse_sweep("k:layer,head")}, {},
                                       {.method = NodeMethod::atp_qk, .each = true});
  EXPECT_LT((star.sweeps[0].scores - fixed.sweeps[0].each.abs().mean(2)).abs().max().item<double>(),
            tolerance);
  EXPECT_GT(fixed.sweeps[0].doubts.max().item<double>(), 1e-6);
}

// The largest difference, among sites and layers, between a sum of scores and the effect of
// patching the site whole, as a share of the largest effect.
double incompleteness(const Model& model, const Pairs& pairs, Direction direction, int steps,
                      const Metric& metric) {
  const std::vector<std::string> by_node = {"z:layer,head",           "q:layer,head",
                                            "k:layer,position",       "attn_out:layer",
                                            "mlp_out:layer,position", "resid_pre:layer,position"};
  const std::vector<std::string> whole = {"z:layer",        "q:layer",       "k:layer",
                                          "attn_out:layer", "mlp_out:layer", "resid_pre:layer"};
  const NodeReport report =
      node_report(model, pairs, sweeps_of(model.config(), by_node), metric,
                  {.method = NodeMethod::ig, .direction = direction, .steps = steps});
  double most = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const at::Tensor exact =
        exact_effects(model, pairs, parse_sweep(whole[i]), metric, direction).mean(1);
    const at::Tensor sums = report.sweeps[i].scores.reshape({exact.size(0), -1}).sum(1);
    most = std::max(most, (sums - exact).abs().max().item<double>());
    largest = std::max(largest, exact.abs().max().item<double>());
  }
  EXPECT_GT(largest, 1e-3);
  return most / largest;
}

TEST(Nodes, IntegratedGradientsSumToTheEffectOfTheWholeSite) {
  for (const std::uint64_t seed : {2, 3}) {
    const ModelConfig config = test::any_config(seed);
    const Model model = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 2, 5, seed + 7);
    const Direction direction = seed == 2 ? Direction::noising : Direction::denoising;
    for (const char* text : {"logit_diff", "sink:1"}) {
      const double coarse = incompleteness(model, pairs, direction, 16, metric_of(text));
      const double fine = incompleteness(model, pairs, direction, 96, metric_of(text));
      // The midpoint rule's error falls with the square of the step, here to a 36th, once steps are
      // short beside the curve.
      EXPECT_LT(fine, coarse / 8 + 1e-9) << text << " " << coarse;
      EXPECT_LT(fine, integration_tolerance) << text;
    }
  }
}

TEST(Nodes, AlongTheInputsTheStreamThatEntersSumsToTheWholeDifference) {
  for (const std::uint64_t seed : {2, 3}) {
    const ModelConfig config = test::any_config(seed);
    const Model model = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
    const Pairs pairs = test::toy_pairs(config, 3, 6, seed + 7);
    const auto gap = [&](int steps, Direction direction) {
      const NodeReport report =
          node_report(model, pairs, {parse_sweep("resid_pre:layer,position")}, {},
                      {.method = NodeMethod::ig_inputs, .direction = direction, .steps = steps});
      const double whole = report.clean_mean.mean - report.corrupt_mean.mean;
      EXPECT_GT(std::abs(whole), 1e-2);
      return std::abs(report.sweeps[0].scores[0].sum().item<double>() - whole);
    };
    for (const Direction direction : {Direction::noising, Direction::denoising}) {
      EXPECT_LT(gap(256, direction), gap(16, direction) / 8 + 1e-9);
      EXPECT_LT(gap(256, direction), 1e-2);
    }
  }
}

TEST(Nodes, ScoresDependNeitherOnTheSplitOfPairsNorOnThreads) {
  const ModelConfig config = test::any_config(2);
  const Model one = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Model three = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 3});
  const Pairs pairs = test::toy_pairs(config, 24, 6, 9);
  const std::vector<SweepSpec> nodes = usual_nodes(config);
  for (const NodeMethod method : {NodeMethod::atp, NodeMethod::atp_qk, NodeMethod::atp_star,
                                  NodeMethod::ig, NodeMethod::ig_inputs}) {
    const NodeOptions options{.method = method, .steps = 2};
    const NodeReport all = node_report(one, pairs, nodes, {}, options);
    const NodeReport again = node_report(three, pairs, nodes, {}, options);
    const NodeReport first = node_report(one, some_of(pairs, 0, 7), nodes, {}, options);
    const NodeReport rest = node_report(one, some_of(pairs, 7, 17), nodes, {}, options);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      EXPECT_TRUE(at::equal(all.sweeps[i].scores, again.sweeps[i].scores));
      EXPECT_TRUE(at::equal(all.sweeps[i].doubts, again.sweeps[i].doubts));
      const at::Tensor joined = (7 * first.sweeps[i].scores + 17 * rest.sweeps[i].scores) / 24;
      EXPECT_LT((joined - all.sweeps[i].scores).abs().max().item<double>(), tolerance)
          << to_string(method);
    }
  }
}

TEST(Nodes, RefusesWhatIsNoNodeOrHasNoGradient) {
  const ModelConfig config = test::any_config(2);
  const Model model = test::toy_model(config, 2);
  const Pairs pairs = test::toy_pairs(config, 2, 5, 9);
  const auto refused = [&](const std::vector<SweepSpec>& nodes, const Metric& metric,
                           const NodeOptions& options) {
    try {
      node_report(model, pairs, nodes, metric, options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::bad_argument;
    }
    return false;
  };
  const std::vector<SweepSpec> nodes = {parse_sweep("z:layer,head")};
  EXPECT_TRUE(refused({}, {}, {}));
  EXPECT_TRUE(refused({parse_sweep("scores:layer")}, {}, {}));
  EXPECT_TRUE(refused({parse_sweep("embed:position")}, {}, {}));
  EXPECT_TRUE(refused({parse_sweep("expert_out:layer")}, {}, {}));
  EXPECT_TRUE(refused({sweep_of_sets({parse_site_set("L0.z", 2)})}, {}, {}));
  EXPECT_TRUE(refused(nodes, {.kind = MetricKind::rank}, {}));
  EXPECT_TRUE(refused(nodes, {}, {.method = NodeMethod::ig, .steps = 0}));
  EXPECT_FALSE(refused(nodes, {}, {}));
  EXPECT_THROW(parse_node_method("eap"), Error);
  EXPECT_EQ(parse_node_method("atp-star"), parse_node_method(to_string(NodeMethod::atp_star)));
}

}  // namespace
}  // namespace plumb
