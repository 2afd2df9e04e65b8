// Mixtures of experts: their writes sum to the MLP's, the router decides who writes, and the bits
// depend on the tile alone.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>

#include "plumb/error.h"
#include "support/naive_decoder.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// The order of float64 sums differs between two ways to compute one number.
constexpr double rounding = 1e-11;

ModelConfig config_of(bool normalise, int shared_width = 0) {
  ModelConfig config = random_config(2);
  config.layers = 3;
  config.experts = {.count = 7, .per_token = 3, .width = 12, .normalise = normalise};
  config.experts.shared_width = shared_width;
  config.experts.layers = {1, 0, 1};
  return config;
}

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance = rounding) {
  EXPECT_LE((a - b).abs().max().item<double>(),
            tolerance * std::max(1.0, b.abs().max().item<double>()));
}

at::Tensor naive_logits(const Model& model, const Tokens& tokens, const NaiveHook& hook) {
  const auto weights = [&](Weight w, int layer) { return model.weight(w, layer); };
  return naive_forward(model.config(), weights, tokens.ids, {.hook = hook}).logits;
}

TEST(Mixture, WritesSumToTheMlp) {
  for (const bool normalise : {false, true}) {
    for (const int shared : {0, 8}) {
      const Model model = toy_model(config_of(normalise, shared), 3);
      const Tokens tokens = toy_tokens(model.config(), 5, 11, 4);
      for (const int layer : {0, 2}) {
        Plan plan{.record = {Site{Part::router, layer}, Site{Part::expert_out, layer},
                             Site{Part::mlp_out, layer}}};
        if (shared > 0) plan.record.emplace_back(Site{Part::shared_out, layer});
        const plumb::Run found = run(model, tokens, plan);
        const at::Tensor& writes = found.cache.at({Part::expert_out, layer});
        at::Tensor sum = writes.sum(2);
        if (shared > 0) sum = sum + found.cache.at({Part::shared_out, layer});
        expect_close(sum, found.cache.at({Part::mlp_out, layer}));
        const at::Tensor& router = found.cache.at({Part::router, layer});
        expect_close(router.sum(-1), at::ones_like(router.select(-1, 0)));
        // Those that write are the most probable ones.
        const at::Tensor wrote = writes.abs().amax(-1).gt(0);
        EXPECT_TRUE(wrote.sum(-1).eq(3).all().item<bool>());
        const at::Tensor least = router.masked_fill(wrote.logical_not(), 1.0).amin(-1);
        const at::Tensor most = router.masked_fill(wrote, 0.0).amax(-1);
        EXPECT_TRUE(least.gt(most).all().item<bool>());
      }
    }
  }
}

TEST(Mixture, ARouterEditIsTheMixtureOfTheEditedProbabilities) {
  for (const bool normalise : {false, true}) {
    const Model model = toy_model(config_of(normalise, 8), 3);
    const Tokens tokens = toy_tokens(model.config(), 5, 11, 4);
    // Expert 4 out at two positions; all tokens to experts 0 and 6 in unlike parts at another.
    at::Tensor put = at::zeros({1, 1, 7}, at::kDouble);
    put[0][0][0] = 0.2;
    put[0][0][6] = 0.7;
    const Plan plan{
        .interventions = {{{Part::router, 0}, {.positions = {2, 3}, .experts = {4}}, Zero{}},
                          {{Part::router, 2}, {.positions = {5}}, Put{put}}}};
    const NaiveHook hook = [&](const Site& site, at::Tensor& value) {
      if (site == Site{Part::router, 0}) {
        for (const int t : {2, 3}) value.select(1, t).select(-1, 4).zero_();
      } else if (site == Site{Part::router, 2}) {
        value.select(1, 5).copy_(put[0][0]);
      }
    };
    const at::Tensor edited = run(model, tokens, plan).logits;
    expect_close(edited, naive_logits(model, tokens, hook));
    EXPECT_GT((edited - run(model, tokens).logits).abs().max().item<double>(), 1e-3);
  }
}

TEST(Mixture, AnExpertEditIsTheSumOfTheEditedWrites) {
  const Model model = toy_model(config_of(true, 8), 3);
  const Tokens tokens = toy_tokens(model.config(), 5, 11, 4);
  const Plan plan{.interventions = {{{Part::expert_out, 0}, {.experts = {1, 2, 5}}, Scale{-2.0}},
                                    {{Part::shared_out, 2}, {.positions = {0}}, Zero{}}}};
  const NaiveHook hook = [](const Site& site, at::Tensor& value) {
    if (site == Site{Part::expert_out, 0}) {
      for (const int e : {1, 2, 5}) value.select(2, e).mul_(-2.0);
    } else if (site == Site{Part::shared_out, 2}) {
      value.select(1, 0).zero_();
    }
  };
  expect_close(run(model, tokens, plan).logits, naive_logits(model, tokens, hook));
}

TEST(Mixture, NothingIsWrittenWhereNoProbabilityIsLeft) {
  const Model model = toy_model(config_of(true), 3);
  const Tokens tokens = toy_tokens(model.config(), 2, 6, 4);
  const plumb::Run found =
      run(model, tokens,
          {.record = {Site{Part::mlp_out, 2}},
           .interventions = {{{Part::router, 2}, {.positions = {1}}, Zero{}}}});
  const at::Tensor& written = found.cache.at({Part::mlp_out, 2});
  EXPECT_EQ(written.select(1, 1).abs().max().item<double>(), 0.0);
  EXPECT_GT(written.select(1, 0).abs().max().item<double>(), 0.0);
}

TEST(Mixture, OfEqualProbabilitiesTheFirstIsChosen) {
  const Model model = toy_model(config_of(false), 3);
  const Tokens tokens = toy_tokens(model.config(), 2, 6, 4);
  const plumb::Run found =
      run(model, tokens,
          {.record = {Site{Part::expert_out, 0}},
           .interventions = {{{Part::router, 0}, {}, Put{at::full({7}, 1.0 / 7, at::kDouble)}}}});
  const at::Tensor wrote = found.cache.at({Part::expert_out, 0}).abs().amax(-1).gt(0);
  EXPECT_TRUE(wrote.narrow(-1, 0, 3).all().item<bool>());
  EXPECT_FALSE(wrote.narrow(-1, 3, 4).any().item<bool>());
}

TEST(Mixture, OneExpertThatEveryTokenVisitsIsADenseMlp) {
  ModelConfig dense = random_config(2);
  dense.d_mlp = 12;
  ModelConfig sparse = dense;
  sparse.experts = {.count = 1, .per_token = 1, .width = 12};
  const Model model = toy_model(dense, 3);
  const auto weights = [&](Weight weight, int layer) {
    switch (weight) {
      case Weight::router: return at::ones({1, dense.d_model}, at::kDouble);
      case Weight::expert_gate: return model.weight(Weight::gate, layer).unsqueeze(0);
      case Weight::expert_up: return model.weight(Weight::up, layer).unsqueeze(0);
      case Weight::expert_down: return model.weight(Weight::down, layer).unsqueeze(0);
      default: return model.weight(weight, layer);
    }
  };
  const Model same(sparse, weights, "one expert", {.dtype = at::kDouble});
  const Tokens tokens = toy_tokens(dense, 3, 9, 4);
  expect_close(run(same, tokens).logits, run(model, tokens).logits);
}

TEST(Mixture, BitsDoNotDependOnThreads) {
  const ModelConfig config = config_of(true, 8);
  for (const auto& [batch, length] : {std::pair{23, 17}, std::pair{1, 900}}) {
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      const Tokens tokens = toy_tokens(config, batch, length, 9);
      const at::Tensor one =
          run(toy_model(config, 1, {.dtype = dtype, .threads = 1}), tokens).logits;
      for (const int threads : {2, 3}) {
        const Model model = toy_model(config, 1, {.dtype = dtype, .threads = threads});
        EXPECT_TRUE(at::equal(run(model, tokens).logits, one)) << threads << " threads";
      }
    }
  }
}

TEST(Mixture, GradientsReachTheRouter) {
  const Model model = toy_model(config_of(true), 3);
  const Tokens tokens = toy_tokens(model.config(), 2, 6, 4);
  const auto metric = [&](const at::Tensor& delta, bool gradients) {
    const Plan plan{.interventions = {{{Part::router, 0}, {}, Add{delta}}}, .gradients = gradients};
    return run(model, tokens, plan).logits.select(2, 5).sum();
  };
  at::Tensor delta = at::zeros({2, 6, 7}, at::kDouble);
  delta.set_requires_grad(true);
  const at::Tensor gradient = torch::autograd::grad({metric(delta, true)}, {delta}).front();
  // Central differences in float64 lose half of the digits. Experts that stay unchosen have none.
  constexpr double step = 1e-6;
  int nonzero = 0;
  for (std::int64_t e = 0; e < 7; ++e) {
    at::Tensor up = at::zeros({2, 6, 7}, at::kDouble);
    up[1][3][e] = step;
    const double numeric = (metric(up, false) - metric(-up, false)).item<double>() / (2 * step);
    EXPECT_NEAR(gradient[1][3][e].item<double>(), numeric, 1e-6 * std::max(1.0, std::abs(numeric)));
    nonzero += std::abs(numeric) > 1e-6 ? 1 : 0;
  }
  EXPECT_EQ(nonzero, 3);
}

TEST(Mixture, SitesOfTheOtherKindOfBlockAreRefused) {
  const Model model = toy_model(config_of(true), 3);
  const Tokens tokens = toy_tokens(model.config(), 1, 3, 4);
  const auto refusal = [&](Site site, Slice slice = {}) -> std::string {
    try {
      run(model, tokens, {.record = {Record(site, slice)}});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
      return error.what();
    }
    return "accepted";
  };
  for (const Part part : {Part::mlp_pre, Part::mlp_up, Part::mlp_post}) {
    EXPECT_NE(refusal({part, 0}).find("the MLP of block 0 is a mixture of experts; see its router"),
              std::string::npos);
    EXPECT_EQ(refusal({part, 1}), "accepted");
  }
  for (const Part part : {Part::router, Part::expert_out}) {
    EXPECT_NE(refusal({part, 1}).find("the MLP of block 1 is dense"), std::string::npos);
    EXPECT_EQ(refusal({part, 2}), "accepted");
  }
  EXPECT_NE(refusal({Part::shared_out, 0}).find("has no shared one"), std::string::npos);
  EXPECT_NE(refusal({Part::router, 0}, {.experts = {7}}).find("7 entries on the axis expert"),
            std::string::npos);
  EXPECT_NE(refusal({Part::mlp_out, 0}, {.experts = {1}}).find("no experts to choose from"),
            std::string::npos);
}

}  // namespace
}  // namespace plumb::test
