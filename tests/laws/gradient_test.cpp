#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/toy_model.h"

namespace plumb::test {
namespace {

// Central differences in float64 lose half of the digits.
constexpr double step = 1e-6;
constexpr double tolerance = 1e-6;

TEST(Gradients, AgreeWithFiniteDifferences) {
  for (const std::uint64_t seed : {0, 1, 2, 3, 6}) {
    const ModelConfig config = random_config(seed);
    const Model model = toy_model(config, seed);
    const Tokens tokens = toy_tokens(config, 2, 6, seed + 3);
    const auto metric = [&](const at::Tensor& delta, bool gradients) {
      Plan plan{.gradients = gradients};
      plan.interventions.push_back({.site = {Part::resid_mid, 0}, .edit = Add{delta}});
      return plumb::run(model, tokens, plan).logits.select(2, 5).sum();
    };
    at::Tensor delta = at::zeros({2, 6, config.d_model}, at::kDouble);
    delta.set_requires_grad(true);
    const at::Tensor gradient = torch::autograd::grad({metric(delta, true)}, {delta}).front();
    for (const std::int64_t t : {0, 3}) {
      for (const std::int64_t channel : {0, 5}) {
        at::Tensor up = at::zeros({2, 6, config.d_model}, at::kDouble);
        up.index_put_({at::tensor({1}, at::kLong), at::tensor({t}, at::kLong),
                       at::tensor({channel}, at::kLong)},
                      at::tensor({step}, at::kDouble));
        const double numeric = (metric(up, false) - metric(-up, false)).item<double>() / (2 * step);
        EXPECT_NEAR(gradient[1][t][channel].item<double>(), numeric,
                    tolerance * std::max(1.0, std::abs(numeric)));
      }
    }
  }
}

TEST(Gradients, AreNotBuiltUnlessAsked) {
  const ModelConfig config = random_config(2);
  const Model model = toy_model(config, 2);
  const auto run = plumb::run(model, toy_tokens(config, 2, 5, 1));
  EXPECT_FALSE(run.logits.requires_grad());
}

}  // namespace
}  // namespace plumb::test
