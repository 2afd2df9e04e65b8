// Over-mixing: laws, closed forms and plain twins of every measure.
#include "plumb/mix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>
#include <stdexcept>

#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "sink/mix_reductions.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

constexpr double rounding = 1e-10;  // float64 through a few blocks
constexpr double step = 1e-6;       // of central differences, which lose half of the digits
constexpr double numeric = 1e-5;    // what is left of them, relative
constexpr std::int64_t T = 10;

// The model with some weights replaced.
Model altered(const Model& base,
              const std::function<at::Tensor(Weight, const at::Tensor&)>& change) {
  return {base.config(),
          [base, change](Weight weight, int layer) {
            const at::Tensor value = base.weight(weight, layer);
            return value.defined() ? change(weight, value) : value;
          },
          "altered", LoadOptions{.dtype = at::kDouble}};
}

Model zeroed(const Model& base, const std::set<Weight>& weights) {
  return altered(base, [weights](Weight weight, const at::Tensor& value) {
    return weights.contains(weight) ? at::zeros_like(value) : value;
  });
}

Inputs inputs_of(const ModelConfig& config, std::int64_t batch, std::int64_t length = T) {
  Inputs inputs;
  inputs.tokens = test::toy_tokens(config, batch, length, 3);
  inputs.kind = "tokens";
  return inputs;
}

std::vector<std::int64_t> others(std::int64_t batch) {
  std::vector<std::int64_t> ids;
  for (std::int64_t b = 0; b < batch; ++b) ids.push_back(30 - b);
  return ids;
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

const MixState& state_of(const MixReport& report, const std::string& name) {
  for (const MixState& state : report.states) {
    if (state.name == name) return state;
  }
  throw std::runtime_error("no condition " + name);
}

TEST(MixLaws, NothingSpreadsWithoutAttention) {
  const ModelConfig config = test::random_config(4);
  const Model model = zeroed(test::toy_model(config, 4), {Weight::out});
  const MixReport report =
      measure_mix(model, inputs_of(config, 3), others(3), {.position = 4, .probes = 0});
  const MixState& plain = report.states.front();
  at::Tensor elsewhere = plain.change.clone();
  EXPECT_GT(elsewhere.select(1, 4).min().item<double>(), 0.0);
  elsewhere.select(1, 4).fill_(0.0);
  EXPECT_EQ(largest(elsewhere), 0.0);
  EXPECT_EQ(plain.spread.mean, 0.0);
  const at::Tensor& jacobian = plain.reach.front().jacobian;
  EXPECT_EQ(largest(jacobian.narrow(0, 0, T - 1)), 0.0);
  EXPECT_GT(jacobian[T - 1].item<double>(), 0.0);
  // With column 0 hidden the losses are the same, as nothing was read from it.
  EXPECT_NEAR(state_of(report, "column0").loss_change.mean, 0.0, rounding);
}

TEST(MixLaws, UniformAttentionHasItsClosedForms) {
  const ModelConfig config = test::random_config(4);
  const Model model = zeroed(test::toy_model(config, 4), {Weight::q, Weight::q_bias});
  const MixReport report =
      measure_mix(model, inputs_of(config, 2), others(2), {.jacobian_sequences = 1});
  const MixState& plain = report.states.front();
  double entropy = 0.0;
  for (std::int64_t q = 1; q < T; ++q)
    entropy += std::log(static_cast<double>(q + 1)) / static_cast<double>(T - 1);
  // Of all keys after it, position 1 draws most, from the queries after it.
  double rival = 0.0;
  for (std::int64_t q = 2; q < T; ++q)
    rival += 1.0 / static_cast<double>(q + 1) / static_cast<double>(T - 2);
  for (int l = 0; l < config.layers; ++l) {
    EXPECT_NEAR(plain.sink[l].item<double>(), uniform_sink(T, Queries::no_self), rounding);
    EXPECT_NEAR(plain.entropy[l].item<double>(), entropy, rounding);
    EXPECT_NEAR(plain.rival[l].item<double>(), rival, rounding);
  }
  // Of one block by hand: H / T from everywhere, and 1 / H from the position itself.
  const double H = config.heads;
  at::Tensor block = at::zeros({T, T}, at::kDouble);
  for (std::int64_t j = 0; j < T; ++j) {
    for (std::int64_t i = 0; i <= j; ++i) {
      block[j][i].fill_(H / static_cast<double>(j + 1) + (i == j ? 1.0 / H : 0.0));
    }
  }
  at::Tensor paths = at::eye(T, at::kDouble);
  for (int l = 0; l < config.layers; ++l) paths = block.matmul(paths);
  EXPECT_LT(largest(plain.reach.front().path / paths[T - 1] - 1.0), rounding);
  // Logits are 0: so are the factors that make them.
  const auto factor = [&](LogitFactor which) {
    return largest(plain.factors.select(2, static_cast<std::int64_t>(which)));
  };
  EXPECT_EQ(factor(LogitFactor::query_norm), 0.0);
  EXPECT_EQ(factor(LogitFactor::first_logit), 0.0);
  EXPECT_EQ(factor(LogitFactor::logit), 0.0);
}

TEST(MixLaws, EqualTokensCollapse) {
  // Rotary positions tell copies of a token nothing: attention averages equal values.
  const ModelConfig config = test::random_config(4);
  Inputs inputs = inputs_of(config, 2);
  inputs.tokens.ids = at::full({2, T}, 5, at::kLong);
  const MixReport report =
      measure_mix(test::toy_model(config, 4), inputs, others(2), {.jacobian_sequences = 0});
  EXPECT_LT(largest(report.states.front().rank_collapse), rounding);
  EXPECT_LT(largest(report.states.front().last_relative), rounding);
}

TEST(MixLaws, HiddenColumnDrawsNothing) {
  for (const std::uint64_t seed : {1, 4}) {
    const ModelConfig config = test::random_config(seed);
    const MixReport report =
        measure_mix(test::toy_model(config, seed), inputs_of(config, 2), others(2), {.probes = 0});
    const MixState& hidden = state_of(report, "column0");
    EXPECT_EQ(largest(hidden.sink), 0.0);
    for (const Reach& reach : hidden.reach) {
      EXPECT_EQ(reach.path[0].item<double>(), 0.0);
      EXPECT_EQ(reach.jacobian[0].item<double>(), 0.0);
    }
  }
}

TEST(MixLaws, WithColumnZeroHiddenTheNextTokenIsTheFirst) {
  // Later tokens do what they would without it: rotary positions only tell distances.
  const ModelConfig config = test::random_config(4);
  ASSERT_EQ(config.positions, Positions::rope);
  const Inputs inputs = make_inputs({{4, 9, 2, 7, 1, 8, 3}, {6, 5, 4, 3, 2, 9, 7}}, 7, 0, "tokens");
  const MixReport report = measure_mix(test::toy_model(config, 4), inputs, others(2),
                                       {.position = 2, .jacobian_sequences = 0});
  const MixState& hidden = state_of(report, "column0");
  const MixState& bare = state_of(report, "no_bos");
  EXPECT_NEAR(hidden.loss.mean, bare.loss.mean, rounding);
  EXPECT_NEAR(hidden.relative_spread.mean, bare.relative_spread.mean, rounding);
  EXPECT_GT(std::abs(hidden.loss.mean - report.states.front().loss.mean), rounding);
  EXPECT_GT(bare.sink.min().item<double>(), 0.0);
}

TEST(MixReach, IsTheJacobianOfFiniteDifferences) {
  for (const std::uint64_t seed : {0, 1, 4}) {
    const ModelConfig config = test::random_config(seed);
    const Model model = test::toy_model(config, seed);
    const at::Tensor ids = test::toy_tokens(config, 1, 6, 8).ids;
    const Reach reach = measure_reach(model, ids, {}, 0, 0);
    const auto final_state = [&](std::int64_t t, std::int64_t channel, double by) {
      at::Tensor delta = at::zeros({1, 6, config.d_model}, at::kDouble);
      delta[0][t][channel].fill_(by);
      const Site last{Part::resid_post, config.layers - 1};
      const auto run =
          plumb::run(model, Tokens{.ids = ids},
                     {.record = {last},
                      .interventions = {{.site = {Part::resid_pre, 0}, .edit = Add{delta}}},
                      .logits = Logits::none});
      return run.cache.at(last)[0][5].clone();
    };
    for (std::int64_t t = 0; t < 6; ++t) {
      double squares = 0.0;
      for (std::int64_t c = 0; c < config.d_model; ++c) {
        const at::Tensor slope = (final_state(t, c, step) - final_state(t, c, -step)) / (2 * step);
        squares += slope.square().sum().item<double>();
      }
      const double norm = reach.jacobian[t].item<double>();
      EXPECT_NEAR(std::sqrt(squares), norm, numeric * std::max(1.0, norm)) << "position " << t;
    }
  }
}

TEST(MixReach, ProbesEstimateIt) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  const at::Tensor ids = test::toy_tokens(config, 1, 6, 8).ids;
  constexpr std::int64_t probes = 500;
  const at::Tensor exact = measure_reach(model, ids, {}, 0, 0).jacobian;
  const at::Tensor estimated = measure_reach(model, ids, {}, probes, 1).jacobian;
  // The variance of a squared norm is at most twice its square: five of its standard deviations,
  // halved by the root.
  EXPECT_LT(largest(estimated / exact - 1.0), 2.5 * std::sqrt(2.0 / probes));
}

TEST(MixReach, HasTheSameBitsOnAnyNumberOfThreads) {
  const ModelConfig config = test::random_config(4);
  const at::Tensor ids = test::toy_tokens(config, 1, 6, 8).ids;
  const auto on = [&](int threads) {
    const Model model = test::toy_model(config, 4, {.dtype = at::kFloat, .threads = threads});
    return measure_reach(model, ids, {}, 10, 1).jacobian;
  };
  const at::Tensor alone = on(1);
  EXPECT_GT(alone.min().item<double>(), 0.0);
  EXPECT_TRUE(at::equal(alone, on(2)));
  EXPECT_TRUE(at::equal(alone, on(3)));
}

TEST(MixReach, IsBoundedByThePathsOfAttention) {
  for (const std::uint64_t seed : {0, 1, 2, 4}) {
    const ModelConfig config = test::random_config(seed);
    const Model model = test::toy_model(config, seed);
    const at::Tensor ids = test::toy_tokens(config, 1, 6, 8).ids;
    const Reach reach = measure_reach(model, ids, {}, 0, 0);
    const std::vector<double> constants = block_constants(model, ids);
    double bound = 1.0;
    double most = 0.0;
    for (const double constant : constants) {
      bound *= constant;
      most = std::max(most, constant);
    }
    const at::Tensor slack = bound * reach.path / reach.jacobian;
    EXPECT_GE(slack.min().item<double>(), 1.0 - rounding);
    // The theorem's form, with one constant for all blocks, holds with the largest; the smallest
    // one that holds end to end is no larger.
    EXPECT_LE(reach.constant, most * (1.0 + rounding));
    EXPECT_GE((std::pow(reach.constant, config.layers) * reach.path / reach.jacobian)
                  .min()
                  .item<double>(),
              1.0 - 1e-6);
  }
}

TEST(MixMeasures, AreThoseOfTheRecordedTensors) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  Inputs inputs = inputs_of(config, 1);
  const MixState state =
      measure_mix(model, inputs, others(1), {.jacobian_sequences = 0}).states.front();
  Plan plan;
  for (int l = 0; l < config.layers; ++l) {
    for (const Part part : {Part::q, Part::k, Part::v, Part::z, Part::resid_pre})
      plan.record.emplace_back(Site{part, l});
  }
  const auto run = plumb::run(model, inputs.tokens, plan);
  const std::int64_t G = config.heads / config.kv_heads;
  for (int l = 0; l < config.layers; ++l) {
    const auto at_head = [&](Part part, std::int64_t t, std::int64_t h) {
      return run.cache.at({part, l})[0][t][part == Part::k || part == Part::v ? h / G : h];
    };
    const at::Tensor out = model.weight(Weight::out, l);
    double honor_sum = 0.0;
    std::vector<double> lengths;
    for (std::int64_t h = 0; h < config.heads; ++h) {
      const at::Tensor W = out.narrow(1, h * config.d_head, config.d_head);
      double written = 0.0;
      double value = 0.0;
      double z = 0.0;
      for (std::int64_t t = 0; t < T; ++t) {
        written += W.mv(at_head(Part::v, t, h)).norm().item<double>() / T;
        value += at_head(Part::v, t, h).norm().item<double>() / T;
        z += at_head(Part::z, t, h).norm().item<double>() / T;
      }
      lengths.push_back(z);
      honor_sum += z / config.heads;
      const double first = W.mv(at_head(Part::v, 0, h)).norm().item<double>();
      EXPECT_NEAR(state.value_drain[l][h].item<double>(), first / written, rounding);
      EXPECT_NEAR(state.value_ratio[l][h].item<double>(),
                  at_head(Part::v, 0, h).norm().item<double>() / value, rounding);

      double first_cosine = 0.0;
      double cosine = 0.0;
      double logit = 0.0;
      double pairs = 0.0;
      for (std::int64_t q = 1; q < T; ++q) {
        const at::Tensor query = at_head(Part::q, q, h);
        for (std::int64_t k = 0; k <= q; ++k) {
          const at::Tensor key = at_head(Part::k, k, h);
          const double dot = query.dot(key).item<double>();
          const double c = dot / (query.norm().item<double>() * key.norm().item<double>());
          if (k == 0) {
            first_cosine += c / (T - 1);
          } else {
            cosine += c;
            logit += dot / std::sqrt(static_cast<double>(config.d_head));
            pairs += 1.0;
          }
        }
      }
      const auto factor = [&](LogitFactor which) {
        return state.factors[l][h][static_cast<std::int64_t>(which)].item<double>();
      };
      EXPECT_NEAR(factor(LogitFactor::first_cosine), first_cosine, rounding);
      EXPECT_NEAR(factor(LogitFactor::cosine), cosine / pairs, rounding);
      EXPECT_NEAR(factor(LogitFactor::logit), logit / pairs, rounding);
    }
    for (std::int64_t h = 0; h < config.heads; ++h) {
      EXPECT_NEAR(state.honor[l][h].item<double>(),
                  lengths[static_cast<std::size_t>(h)] / honor_sum, rounding);
    }
    const at::Tensor V = run.cache.at({Part::resid_pre, l})[0];
    const double distance = (V - at::ones({T, T}, at::kDouble).matmul(V) / T).norm().item<double>();
    EXPECT_NEAR(state.rank_distance[l].item<double>(), distance, rounding * distance);
    EXPECT_NEAR(state.last_distance[l].item<double>(), (V[T - 1] - V[T - 2]).norm().item<double>(),
                rounding * distance);
  }
  // Bands share out the whole energy.
  EXPECT_LT(largest(state.energy.sum(2) - 1.0), rounding);
}

TEST(MixMeasures, ChangeIsThatOfTheEditedRun) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  const Inputs inputs = inputs_of(config, 1);
  const MixReport report = measure_mix(
      model, inputs, {7}, {.knock_outs = {"m0+a1"}, .position = 3, .jacobian_sequences = 0});
  EXPECT_EQ(report.replaced, std::vector<std::string>{"m0+a1"});
  Plan plan{.record = {Site{Part::resid_post, config.layers - 1}}};
  const auto before = plumb::run(model, inputs.tokens, plan);
  Tokens edited = inputs.tokens;
  edited.ids = edited.ids.clone();
  edited.ids[0][3].fill_(edited.ids[0][3].item<std::int64_t>() == 7 ? 8 : 7);
  const auto after = plumb::run(model, edited, plan);
  const at::Tensor change =
      (after.cache.at(plan.record[0].site) - before.cache.at(plan.record[0].site))[0].norm(2, 1);
  const MixState& plain = report.states.front();
  EXPECT_LT(largest(plain.change[config.layers] - change), rounding);
  EXPECT_EQ(largest(plain.change.narrow(1, 0, 3)), 0.0);
  EXPECT_NEAR(plain.spread.mean, change.narrow(0, 4, T - 4).mean().item<double>(), rounding);

  // The knock-out puts the plain run's means, in the edited run too.
  Plan means{.logits = Logits::none};
  const std::vector<Site> sites = {{Part::mlp_out, 0}, {Part::attn_out, 1}};
  for (const Site site : sites) means.record.emplace_back(site);
  const auto ordinary = plumb::run(model, inputs.tokens, means);
  for (const Site site : sites) {
    const at::Tensor mean = ordinary.cache.at(site).narrow(1, 1, T - 1).mean(1, true);
    plan.interventions.push_back({.site = site, .where = {.positions = {0}}, .edit = Put{mean}});
  }
  const auto cut = plumb::run(model, inputs.tokens, plan);
  const auto cut_after = plumb::run(model, edited, plan);
  const at::Tensor cut_change =
      (cut_after.cache.at(plan.record[0].site) - cut.cache.at(plan.record[0].site))[0].norm(2, 1);
  EXPECT_LT(largest(state_of(report, "m0+a1").change[config.layers] - cut_change), rounding);
}

TEST(MixMeasures, BlocksBeforeAKnockOutComeOfThePlainRun) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  const Inputs inputs = inputs_of(config, 3);
  const int last_block = config.layers - 1;
  const std::string set = "a" + std::to_string(last_block);
  ASSERT_GT(last_block, 0);
  const MixReport report = measure_mix(
      model, inputs, others(3), {.knock_outs = {set}, .position = 3, .jacobian_sequences = 0});
  // Plain, with column 0 hidden, and the last block alone: twice each.
  EXPECT_EQ(report.evaluations, 2 * 3 * T * (2 * config.layers + 1));
  EXPECT_EQ(report.evaluations,
            foresee_mix(model, inputs, {.knock_outs = {set}, .jacobian_sequences = 0}));
  const MixState& plain = report.states.front();
  const MixState& cut = state_of(report, set);
  const auto before = [&](at::Tensor MixState::*what, std::int64_t rows) {
    return at::equal((plain.*what).narrow(0, 0, rows), (cut.*what).narrow(0, 0, rows));
  };
  EXPECT_TRUE(before(&MixState::sink, last_block));
  EXPECT_TRUE(before(&MixState::rival, last_block));
  EXPECT_TRUE(before(&MixState::entropy, last_block));
  EXPECT_TRUE(before(&MixState::value_drain, last_block));
  EXPECT_TRUE(before(&MixState::honor, last_block));
  EXPECT_TRUE(before(&MixState::factors, last_block));
  EXPECT_TRUE(before(&MixState::change, last_block + 1));
  EXPECT_TRUE(before(&MixState::rank_collapse, last_block + 1));
  EXPECT_TRUE(before(&MixState::energy, last_block + 1));

  // After it, what whole runs with the edit give.
  Plan plan{.record = {Site{Part::attn_out, last_block}, Site{Part::resid_post, last_block}}};
  const auto ordinary = plumb::run(model, inputs.tokens, plan);
  const at::Tensor mean = ordinary.cache.at(plan.record[0].site).narrow(1, 1, T - 1).mean(1, true);
  plan.interventions = {
      {.site = plan.record[0].site, .where = {.positions = {0}}, .edit = Put{mean}}};
  const at::Tensor V = plumb::run(model, inputs.tokens, plan).cache.at(plan.record[1].site);
  double rank = 0.0;
  for (std::int64_t b = 0; b < 3; ++b)
    rank += ((V[b] - V[b].mean(0, true)).norm() / V[b].norm()).item<double>() / 3;
  EXPECT_NEAR(cut.rank_collapse[config.layers].item<double>(), rank, rounding);
  EXPECT_GT(std::abs(plain.rank_collapse[config.layers].item<double>() - rank), rounding);
}

TEST(MixMeasures, WithoutBosTheSameTokensAreScored) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  const Inputs inputs = make_inputs({{4, 9, 2, 7, 1, 8, 3}, {6, 5, 4, 3, 2}}, 7, 0, "tokens");
  const MixReport report = measure_mix(model, inputs, others(2), {.jacobian_sequences = 1});
  const MixState& bare = state_of(report, "no_bos");
  EXPECT_EQ(bare.length, inputs.length() - 1);
  EXPECT_EQ(bare.position, report.states.front().position - 1);
  const auto run = plumb::run(model, make_tokens({{4, 9, 2, 7, 1, 8, 3}}));
  const auto second = plumb::run(model, make_tokens({{6, 5, 4, 3, 2}}));
  const double expected = (token_loss(run.logits, make_tokens({{4, 9, 2, 7, 1, 8, 3}}).ids).mean() +
                           token_loss(second.logits, make_tokens({{6, 5, 4, 3, 2}}).ids).mean())
                              .item<double>() /
                          2.0;
  EXPECT_NEAR(bare.loss.mean, expected, rounding);
  EXPECT_EQ(bare.reach.front().path.size(0), inputs.length() - 1);
}

TEST(MixMeasures, RefuseWhatIsNotThere) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4);
  const Inputs inputs = inputs_of(config, 1);
  const auto refused = [&](const MixOptions& options) {
    EXPECT_THROW(measure_mix(model, inputs, others(1), options), Error);
  };
  refused({.knock_outs = {"m99"}});
  refused({.knock_outs = {"m0+"}});
  refused({.knock_outs = {""}});
  refused({.position = 0});
  refused({.position = T - 1});
  refused({.bands = 0});
  refused({.probes = -1});
  EXPECT_THROW(measure_mix(model, inputs, others(2)), Error);
}

}  // namespace
}  // namespace plumb
