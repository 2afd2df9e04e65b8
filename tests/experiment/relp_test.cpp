// Relevance patching: what it conserves, and where it is the gradient.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plumb/attribute.h"
#include "plumb/error.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Float64 sums of the same numbers in another order.
constexpr double tolerance = 1e-10;

// A Llama-like decoder without biases. Token 0 embeds to nothing, and so do its writes.
ModelConfig unbiased(std::uint64_t seed) {
  ModelConfig config = test::any_config(seed);
  config.qkv_bias = config.out_bias = config.mlp_bias = config.norm_bias = false;
  config.tied = false;
  return config;
}

Model with_silent_token(const ModelConfig& config, std::uint64_t seed) {
  const Model drawn = test::toy_model(config, seed, {.dtype = at::kDouble, .threads = 1});
  const auto source = [drawn](Weight weight, int layer) {
    at::Tensor value = drawn.weight(weight, layer);
    if (weight != Weight::embed) return value;
    value = value.clone();
    value[0].zero_();
    return value;
  };
  return Model(config, source, "silent", {.dtype = at::kDouble, .threads = 1});
}

Pairs against_silence(const ModelConfig& config, std::int64_t count, std::int64_t length) {
  std::vector<PairIds> list;
  const at::Tensor ids = test::toy_tokens(config, count, length, 5).ids;
  for (std::int64_t b = 0; b < count; ++b) {
    PairIds pair{.right = b + 1, .wrong = b + 4};
    for (std::int64_t t = 0; t < length; ++t) {
      pair.clean.push_back(ids[b][t].item<std::int64_t>());
      pair.corrupt.push_back(0);
    }
    list.push_back(pair);
  }
  return make_pairs(list);
}

// What the edges carry from what wrote before block `layer` to what reads from there on.
at::Tensor across(const EdgeReport& report, int layer) {
  const EdgeSpace& space = report.scores.space;
  at::Tensor sum = at::zeros({report.each.size(0)}, at::kDouble);
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    const EdgeSpace::Ends ends = space.ends(edge);
    if (space.sender(ends.sender).layer < layer && space.receiver(ends.receiver).layer >= layer)
      sum += report.each.select(1, edge);
  }
  return sum;
}

// Kinds: grouped heads, QK-norm, mixtures of experts, norms on writes, parallel blocks, gates,
// sink logits, clipped values, capped scores and logits.
class Relevance : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, Relevance,
                         testing::Values(0, 2, 4, 6, 10, 12, 13, 14, 15, 16, 17, 19, 20, 22));

TEST_P(Relevance, AcrossEveryCutSumsToTheMetric) {
  const ModelConfig config = unbiased(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = with_silent_token(config, GetParam());
  const Pairs pairs = against_silence(config, 3, 5);
  const EdgeReport held =
      edge_report(model, pairs, {}, {.each = true, .rules = EdgeRules::relp_ah});
  const EdgeReport gradient = edge_report(model, pairs, {}, {.each = true});
  const at::Tensor whole = held.clean - held.corrupt;
  ASSERT_GT(whole.abs().min().item<double>(), 1e-3);
  EXPECT_EQ(held.corrupt.abs().max().item<double>(), 0.0);
  const double size = std::max(1.0, whole.abs().max().item<double>());
  double off = 0.0;
  for (int layer = 0; layer <= config.layers; ++layer) {
    EXPECT_LT((across(held, layer) - whole).abs().max().item<double>(), tolerance * size) << layer;
    off = std::max(off, (across(gradient, layer) - whole).abs().max().item<double>());
  }
  EXPECT_GT(off, 1e-3) << "gradients would conserve as well";
  EXPECT_NE(held.scores.convention.find("relp-ah"), std::string::npos);
}

TEST_P(Relevance, HoldsPatternsOnlyWhereAsked) {
  const ModelConfig config = test::any_config(GetParam());
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 3);
  const EdgeScores held = attribute_edges(model, pairs, {}, {.rules = EdgeRules::relp_ah});
  const EdgeScores moved = attribute_edges(model, pairs, {}, {.rules = EdgeRules::relp});
  double keys = 0.0;
  for (std::int64_t edge = 0; edge < held.space.edges(); ++edge) {
    const EdgeReceiver::Kind kind = held.space.receiver(held.space.ends(edge).receiver).kind;
    if (kind != EdgeReceiver::Kind::q && kind != EdgeReceiver::Kind::k) continue;
    EXPECT_EQ(held.values[edge].item<double>(), 0.0) << held.space.edge_name(edge);
    keys = std::max(keys, std::abs(moved.values[edge].item<double>()));
  }
  EXPECT_GT(keys, 1e-6);
}

// A decoder in which nothing is left that is not linear at these inputs: one position, so that the
// pattern is 1; a norm whose epsilon outweighs the stream; ReLU, whose ratio is its derivative.
TEST(Relevances, OfALinearModelAreGradients) {
  ModelConfig config = test::any_config(1);
  config.activation = Activation::relu;
  config.norm_eps = 1e26;
  const Model model = test::toy_model(config, 1, {.dtype = at::kDouble, .threads = 1});
  const Model scaled(config,
                     [&](Weight weight, int layer) {
                       at::Tensor value = model.weight(weight, layer);
                       const bool gain = weight == Weight::ln1 || weight == Weight::ln2 ||
                                         weight == Weight::final_norm;
                       return gain ? value * 1e13 : value;
                     },
                     "linear", {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = make_pairs({{.clean = {3}, .corrupt = {4}, .right = 1, .wrong = 2},
                                  {.clean = {7}, .corrupt = {9}, .right = 5, .wrong = 6}});
  const at::Tensor gradient = attribute_edges(scaled, pairs).values;
  const double size = gradient.abs().max().item<double>();
  ASSERT_GT(size, 1e-2);
  for (const EdgeRules rules : {EdgeRules::relp, EdgeRules::relp_ah}) {
    const at::Tensor found = attribute_edges(scaled, pairs, {}, {.rules = rules}).values;
    EXPECT_LT((found - gradient).abs().max().item<double>(), tolerance * size);
  }
  // Where it is not, they are not.
  const ModelConfig curved = test::any_config(1);
  const Model other = test::toy_model(curved, 1, {.dtype = at::kDouble, .threads = 1});
  const at::Tensor a = attribute_edges(other, pairs).values;
  const at::Tensor b = attribute_edges(other, pairs, {}, {.rules = EdgeRules::relp}).values;
  EXPECT_GT((a - b).abs().max().item<double>(), 1e-3);
}

// The half of a gated product: an MLP whose two factors are alike has twice the edge by gradients.
TEST(Relevances, TakeTheMeanOverTheFactorsOfAProduct) {
  ModelConfig config = test::any_config(0);
  config.layers = 1;
  config.activation = Activation::relu;
  config.norm_eps = 1e26;
  config.qk_norm = QkNorm::none;
  config.norm = Norm::rms;
  const Model drawn = test::toy_model(config, 4, {.dtype = at::kDouble, .threads = 1});
  const Model model(config,
                    [&](Weight weight, int layer) {
                      at::Tensor value =
                          drawn.weight(weight == Weight::up ? Weight::gate : weight, layer);
                      const bool gain = weight == Weight::ln1 || weight == Weight::ln2 ||
                                        weight == Weight::final_norm;
                      return gain ? value * 1e13 : value;
                    },
                    "square", {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = make_pairs({{.clean = {3}, .corrupt = {4}, .right = 1, .wrong = 2}});
  const EdgeScores gradient = attribute_edges(model, pairs);
  const EdgeScores held = attribute_edges(model, pairs, {}, {.rules = EdgeRules::relp});
  const auto edge = gradient.space.find_edge("input->m0").value();
  ASSERT_GT(std::abs(gradient.values[edge].item<double>()), 1e-3);
  EXPECT_NEAR(held.values[edge].item<double>(), gradient.values[edge].item<double>() / 2,
              tolerance);
}

TEST(Relevances, AreRulesForGradients) {
  EXPECT_EQ(parse_edge_rules("relp-ah"), EdgeRules::relp_ah);
  EXPECT_STREQ(to_string(EdgeRules::gradient), "gradient");
  EXPECT_THROW(parse_edge_rules("lrp"), Error);
  const ModelConfig config = test::any_config(1);
  const Model model = test::toy_model(config, 1);
  EXPECT_THROW(attribute_edges(model, test::toy_pairs(config, 2, 5, 3), {},
                               {.method = EdgeMethod::exact, .rules = EdgeRules::relp}),
               Error);
}

}  // namespace
}  // namespace plumb
