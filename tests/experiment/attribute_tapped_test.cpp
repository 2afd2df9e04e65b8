// Edges of a forward pass written by somebody else score as those of plumb's own decoder.
#include "plumb/attribute_tapped.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "plumb/error.h"
#include "support/tapped_twin.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Float64; the two sides multiply the same numbers in another order.
constexpr double tolerance = 1e-10;

// Of a norm over all heads' queries, those of one head are another question; their sum is not.
at::Tensor over_heads(const EdgeSpace& space, const at::Tensor& values) {
  const EdgeSpace one(space.layers(), space.heads(), 1, space.parallel());
  at::Tensor sums = at::zeros({space.receivers(), space.senders()}, at::kDouble);
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    const EdgeSpace::Ends ends = space.ends(edge);
    EdgeReceiver receiver = space.receiver(ends.receiver);
    if (receiver.kind == EdgeReceiver::Kind::q || receiver.kind == EdgeReceiver::Kind::k)
      receiver.head = 0;
    sums[space.index_of(receiver)][ends.sender] += values[edge];
  }
  return sums;
}

void expect_same(const Model& own, const TappedModel& tapped, const Pairs& pairs,
                 const Metric& metric, const EdgeOptions& options) {
  SCOPED_TRACE(to_string(metric) + " " + to_string(options.method));
  const EdgeReport ours = edge_report(own, pairs, metric, options);
  const EdgeReport theirs = edge_report(tapped, pairs, metric, options);
  const EdgeSpace& space = ours.scores.space;
  ASSERT_EQ(theirs.scores.space, space);
  const double size = std::max(1.0, ours.scores.values.abs().max().item<double>());
  const auto near = [&](const at::Tensor& a, const at::Tensor& b) {
    ASSERT_EQ(a.sizes(), b.sizes());
    EXPECT_LT((a - b).abs().max().item<double>(), tolerance * size);
  };
  near(theirs.clean, ours.clean);
  near(theirs.corrupt, ours.corrupt);
  if (own.config().qk_norm == QkNorm::whole) {
    near(over_heads(space, theirs.scores.values), over_heads(space, ours.scores.values));
    return;
  }
  near(theirs.scores.values, ours.scores.values);
  if (options.each) near(theirs.each, ours.each);
  EXPECT_EQ(theirs.scores.convention, ours.scores.convention);
}

class TappedEdges : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, TappedEdges,
                         testing::Range<std::uint64_t>(0, test::config_kinds));

TEST_P(TappedEdges, ScoreAsThoseOfPlumbsOwnDecoder) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model own = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 5, GetParam() + 7);
  const bool behind = config.norm_place != NormPlace::before;
  for (const bool heads : {false, true}) {
    if (behind && !heads) continue;  // z alone does not say what a head writes
    const TappedModel tapped = test::tapped_twin(own, {.heads = heads});
    expect_same(own, tapped, pairs, {}, {.each = !behind});
    if (heads != behind) continue;
    expect_same(own, tapped, pairs, {}, {.method = EdgeMethod::eap_ig, .steps = 2});
    expect_same(
        own, tapped, pairs, {},
        {.method = EdgeMethod::eap_ig_activations, .steps = 2, .points = IgPoints::midpoint});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.resid_mid"), {});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.mlp_in"), {});
    expect_same(own, tapped, pairs, parse_metric("sink:1"), {});
  }
}

TEST(TappedAttribution, HasTheOtherWaysToAsk) {
  for (const std::uint64_t index : {1, 2}) {
    const ModelConfig config = test::any_config(index);
    const Model own = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const TappedModel tapped = test::tapped_twin(own);
    const Pairs pairs = test::toy_pairs(config, 23, 5, 3);  // several tiles
    expect_same(own, tapped, pairs, parse_metric("loss"), {.by_position = true});
    expect_same(own, tapped, pairs, parse_metric("kl"), {.method = EdgeMethod::eap_ig, .steps = 3});
    expect_same(own, tapped, pairs, {}, {.method = EdgeMethod::clean_corrupted, .each = true});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.z[h=0]"), {});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.mlp_out"), {});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.mlp_post"), {});
    expect_same(own, tapped, pairs, parse_metric("norm:L1.resid_post[t=1,2]"), {});
  }
}

TEST(TappedAttribution, FollowsAMapBetweenPositions) {
  const ModelConfig config = test::any_config(1);
  const Model own = test::toy_model(config, 1, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = make_pairs({{.clean = {1, 2, 3, 4, 5},
                                   .corrupt = {1, 7, 8, 3, 4, 6},
                                   .right = 4,
                                   .wrong = 9,
                                   .align = {{0, 0}, {1, 2}, {2, 3}, {3, 4}, {4, 5}}}});
  expect_same(own, test::tapped_twin(own), pairs, {}, {});
}

// What is left out has a stand-in: the stream before positions are added, that between attention
// and MLP, resid_post of the last block.
TEST(TappedAttribution, FindsItsWayWithFewerSites) {
  for (const std::uint64_t index : {1, 2, 14}) {
    const ModelConfig config = test::any_config(index);
    const Model own = test::toy_model(config, index, {.dtype = at::kDouble, .threads = 1});
    const TappedModel tapped =
        test::tapped_twin(own, {.hidden = [](Site site) {
                            return site.part == Part::embed || site.part == Part::mlp_in;
                          }});
    const Pairs pairs = test::toy_pairs(config, 2, 5, 3);
    expect_same(own, tapped, pairs, {}, {});
    expect_same(own, tapped, pairs, {}, {.method = EdgeMethod::eap_ig, .steps = 2});
  }
}

TEST(TappedAttribution, SaysWhatIsMissing) {
  const ModelConfig config = test::any_config(2);
  const Model own = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 2);
  const auto said = [&](const TappedModel& model, const Metric& metric,
                        const EdgeOptions& options) {
    try {
      attribute_edges(model, pairs, metric, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const auto without = [&](std::initializer_list<Part> parts) {
    const std::vector<Part> hidden = parts;
    return test::tapped_twin(own, {.hidden = [hidden](Site site) {
                               return std::find(hidden.begin(), hidden.end(), site.part) !=
                                      hidden.end();
                             }});
  };
  const auto names = [](const std::string& text, const char* words) {
    EXPECT_NE(text.find(words), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  };
  names(said(without({Part::q}), {}, {}),
        "needs L0.q, which the forward pass of twin never reaches");
  names(said(without({Part::z}), {}, {}), "needs L0.z, ");
  names(said(without({Part::z}), {}, {}), "(or head_out)");
  names(said(without({Part::resid_pre}), {}, {}), "needs L0.resid_pre");
  names(said(without({Part::mlp_in, Part::resid_mid}), {}, {}), "needs L0.mlp_in");
  names(said(without({Part::mlp_in}), parse_metric("norm:L1.mlp_post"), {}), "needs L1.mlp_in");
  names(said(without({Part::resid_post}), {}, {}), ".resid_post");
  names(said(without({Part::pattern}), parse_metric("sink:1"), {}), "needs L1.pattern");
  // A component that is not there, to all appearance.
  names(said(without({Part::mlp_out}), {}, {}),
        "does not sum to its stream: between the prompts L1");
  const TappedModel whole = test::tapped_twin(own);
  names(said(whole, {}, {.method = EdgeMethod::exact}), "take eap or eap-ig");
  names(said(whole, {}, {.rules = EdgeRules::relp}), "rules relp");
  names(said(whole, parse_metric("rank"), {}), "rank has no gradient");
}

// Forward passes that gradients do not come through.
TEST(TappedAttribution, RefusesWhatItCannotPullBack) {
  const ModelConfig config = test::any_config(2);
  const Model own = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 2);
  const TappedModel twin = test::tapped_twin(own);
  const auto said = [&](const std::function<at::Tensor(Site, const at::Tensor&)>& change) {
    const TappedModel model(
        config,
        [&](const Tokens& tokens, const SiteTap& tap) {
          return twin.forward(tokens, [&](Site site, const at::Tensor& value) {
            return change(site, tap(site, value));
          });
        },
        "odd");
    try {
      attribute_edges(model, pairs);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const std::string cut = said([&](Site site, const at::Tensor& value) {
    return site == Site{Part::resid_post, config.layers - 1} ? value.detach() : value;
  });
  EXPECT_NE(cut.find("no gradient of the metric"), std::string::npos) << cut;
  // Something beside q, k, v and the MLP reads the stream: here all that follows it, twice.
  const std::string doubled = said([&](Site site, const at::Tensor& value) {
    return site == Site{Part::resid_pre, 1} ? value + (value - value.detach()) : value;
  });
  EXPECT_NE(doubled.find("something in block 1 of odd reads the stream"), std::string::npos)
      << doubled;
}

}  // namespace
}  // namespace plumb
