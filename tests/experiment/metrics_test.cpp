#include "plumb/metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "experiment/bootstrap.h"
#include "plumb/run.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

TEST(TokenLoss, IsTheNegativeLogProbabilityOfTheNextToken) {
  const at::Tensor logits = at::randn({2, 70, 5}, at::kDouble);
  const at::Tensor ids = at::randint(5, {2, 70}, at::kLong);
  const at::Tensor loss = token_loss(logits, ids);
  const at::Tensor expected = -logits.log_softmax(-1);
  for (const std::int64_t t : {0, 40, 68}) {
    for (const std::int64_t b : {0, 1}) {
      EXPECT_NEAR(loss[b][t].item<double>(),
                  expected[b][t][ids[b][t + 1].item<std::int64_t>()].item<double>(), 1e-12);
    }
  }
}

TEST(TokenLoss, OfUniformLogitsIsTheLogOfTheVocabulary) {
  const at::Tensor loss =
      token_loss(at::zeros({1, 4, 7}, at::kDouble), at::zeros({1, 4}, at::kLong));
  EXPECT_LT((loss - std::log(7.0)).abs().max().item<double>(), 1e-14);
}

TEST(RecordLoss, CountsValidPositionsOnly) {
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 5);
  Tokens tokens = test::toy_tokens(config, 3, 9, 4);
  const auto whole = plumb::run(model, tokens);
  const at::Tensor loss = token_loss(whole.logits, tokens.ids);
  tokens.lengths = at::tensor({9, 4, 2}, at::kLong);
  const auto recorded =
      plumb::run(model, tokens, {.record = {record_loss(1)}, .logits = Logits::none});
  const at::Tensor& mean = recorded.cache.at({Part::logits}, "loss");
  EXPECT_FALSE(recorded.logits.defined());
  EXPECT_NEAR(mean[0].item<double>(), loss[0].narrow(0, 1, 7).mean().item<double>(), 1e-12);
  EXPECT_NEAR(mean[1].item<double>(), loss[1].narrow(0, 1, 2).mean().item<double>(), 1e-12);
  EXPECT_TRUE(
      std::isnan(mean[2].item<double>()));  // two tokens, and their only prediction is skipped
}

TEST(LogitDiff, ReadsItsPositions) {
  const at::Tensor logits = at::arange(2 * 3 * 4, at::kDouble).view({2, 3, 4});
  const auto ids = [](std::vector<std::int64_t> values) { return at::tensor(values, at::kLong); };
  const at::Tensor difference = logit_diff(logits, ids({2, 0}), ids({3, 1}), ids({0, 2}));
  EXPECT_EQ(difference[0].item<double>(), 3.0);
  EXPECT_EQ(difference[1].item<double>(), -1.0);
}

TEST(Bootstrap, CoversTheMeanOfANormalSample) {
  const at::Tensor values = at::linspace(-1.0, 1.0, 101, at::kDouble);
  const Estimate estimate = bootstrap(values, 3);
  // Standard error of the mean, times 1.96; the percentile bootstrap agrees to a few per cent.
  const double half = 1.96 * values.std().item<double>() / std::sqrt(101.0);
  EXPECT_NEAR(estimate.mean, 0.0, 1e-12);
  EXPECT_NEAR(estimate.low, -half, 0.1 * half);
  EXPECT_NEAR(estimate.high, half, 0.1 * half);
  EXPECT_EQ(bootstrap(values, 3).low, estimate.low);
  EXPECT_TRUE(std::isnan(bootstrap(std::vector<double>{}).mean));
}

TEST(Bootstrap, WidensWithTheNumberOfIntervalsThatHoldTogether) {
  const at::Tensor sample = at::linspace(-1.0, 1.0, 101, at::kDouble);
  const std::vector<double> values(sample.data_ptr<double>(), sample.data_ptr<double>() + 101);
  const Estimate usual = bootstrap(values, 3);
  EXPECT_EQ(bootstrap_at(0.025, values, 3).low, usual.low);
  EXPECT_EQ(bootstrap_at(0.025, values, 3).high, usual.high);
  // Of ten that hold together: the 0.9975 quantile of the normal distribution. A tenth of the
  // width is room for the ten resamples beyond a bound.
  const Estimate together = bootstrap_at(0.0025, values, 3);
  const double half = 2.807 * sample.std().item<double>() / std::sqrt(101.0);
  EXPECT_NEAR(together.low, -half, 0.1 * half);
  EXPECT_NEAR(together.high, half, 0.1 * half);
  EXPECT_EQ(together.mean, usual.mean);
}

}  // namespace
}  // namespace plumb
