// Sink statistics against definitions written out plainly.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plumb/error.h"
#include "plumb/sink.h"
#include "sink/reductions.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

constexpr double rounding = 1e-6;  // the survey keeps its statistics in float32

at::Tensor lower_triangle(std::int64_t T) {
  const at::Tensor scores = at::rand({2, 3, T, T}, at::kDouble).tril();
  return scores / scores.sum(-1, true);
}

// Mean attention to a key over the queries that a rule admits, one number at a time.
template <typename Rule>
double plain_mean(const at::Tensor& pattern, std::int64_t b, std::int64_t h, std::int64_t key,
                  std::int64_t length, Rule admits) {
  double sum = 0.0;
  int count = 0;
  for (std::int64_t query = 0; query < length; ++query) {
    if (!admits(query)) continue;
    sum += pattern[b][h][query][key].item<double>();
    ++count;
  }
  return count == 0 ? 0.0 : sum / count;
}

TEST(Received, FollowsEachQueryRuleAndHonoursPadding) {
  constexpr std::int64_t T = 8;
  const at::Tensor pattern = lower_triangle(T);
  const Tile tile{.ids = at::zeros({2, T}, at::kLong), .lengths = at::tensor({8, 5}, at::kLong)};
  for (const Queries queries :
       {Queries::all, Queries::no_self, Queries::second_half, Queries::last}) {
    const at::Tensor received = received_by_head(queries)(pattern, tile);
    const at::Tensor averaged = plumb::received(queries)(pattern, tile);
    for (std::int64_t b = 0; b < 2; ++b) {
      const std::int64_t length = b == 0 ? 8 : 5;
      for (std::int64_t key = 0; key < length; ++key) {
        const auto admits = [&](std::int64_t query) {
          switch (queries) {
            case Queries::all: return query >= key;
            case Queries::no_self: return query > key;
            case Queries::second_half: return query > key && 2 * query >= length;
            case Queries::last: return query > key && query == length - 1;
          }
          return false;
        };
        double mean = 0.0;
        for (std::int64_t h = 0; h < 3; ++h) {
          const double expected = plain_mean(pattern, b, h, key, length, admits);
          EXPECT_NEAR(received[b][h][key].item<double>(), expected, 1e-12);
          mean += expected / 3.0;
        }
        EXPECT_NEAR(averaged[b][key].item<double>(), mean, 1e-12);
      }
    }
  }
}

TEST(UniformSink, IsWhatUniformAttentionGives) {
  constexpr std::int64_t T = 16;
  const at::Tensor uniform = (at::ones({1, 1, T, T}, at::kDouble).tril() /
                              at::arange(1, T + 1, at::kDouble).view({1, 1, T, 1}));
  const Tile tile{.ids = at::zeros({1, T}, at::kLong), .lengths = at::full({1}, T, at::kLong)};
  for (const Queries queries :
       {Queries::all, Queries::no_self, Queries::second_half, Queries::last}) {
    EXPECT_NEAR(received_by_head(queries)(uniform, tile)[0][0][0].item<double>(),
                uniform_sink(T, queries), 1e-12);
  }
  EXPECT_NEAR(uniform_sink(64, Queries::all), 0.074, 0.0005);      // the reference's H_T / T
  EXPECT_NEAR(uniform_sink(64, Queries::no_self), 0.059, 0.0007);  // (H_T - 1) / (T - 1) = 0.0595
}

TEST(MeanOfOthers, LeavesOutPositionZeroAndPadding) {
  const at::Tensor stream = at::arange(2 * 4 * 3, at::kDouble).view({2, 4, 3});
  const Tile tile{.ids = at::zeros({2, 4}, at::kLong), .lengths = at::tensor({4, 3}, at::kLong)};
  const at::Tensor mean = mean_of_others()(stream, tile);
  EXPECT_TRUE(at::allclose(mean[0][0], stream[0].narrow(0, 1, 3).mean(0)));
  EXPECT_TRUE(at::allclose(mean[1][0], stream[1].narrow(0, 1, 2).mean(0)));
}

TEST(Waves, AreMaximalRuns) {
  const auto waves =
      find_waves(at::tensor({0.0, 0.2, 0.3, 0.1, 0.15, 0.5, 0.4}, at::kDouble), 0.15);
  ASSERT_EQ(waves.size(), 2U);
  EXPECT_EQ(waves[0].onset, 1);
  EXPECT_EQ(waves[0].last, 2);
  EXPECT_EQ(waves[0].peak, 2);
  EXPECT_EQ(waves[1].onset, 4);
  EXPECT_EQ(waves[1].last, 6);
  EXPECT_EQ(waves[1].peak, 5);
  EXPECT_NEAR(waves[1].mean, 0.35, 1e-12);
  EXPECT_TRUE(find_waves(at::zeros({4}), 0.15).empty());
}

class Survey : public testing::Test {
 protected:
  ModelConfig config_ = test::random_config(4);
  Model model_ = test::toy_model(config_, 3);
  Inputs inputs() const {
    Inputs inputs;
    inputs.tokens = test::toy_tokens(config_, 5, 12, 8);
    inputs.kind = "tokens";
    return inputs;
  }
};

TEST_F(Survey, AgreesWithTheRecordedPatternsAndStreams) {
  const Inputs in = inputs();
  const SinkSurvey survey = survey_sink(model_, in, {.epsilon = 0.2});
  Plan plan;
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (const Part part : {Part::pattern, Part::resid_pre, Part::resid_mid})
      plan.record.push_back({Site{part, layer}});
  }
  const auto run = plumb::run(model_, in.tokens, plan);
  for (int layer = 0; layer < config_.layers; ++layer) {
    const at::Tensor sink =
        run.cache.at({Part::pattern, layer}).select(3, 0).narrow(2, 1, 11).mean(2);
    EXPECT_LT((survey.sink.select(1, layer) - sink).abs().max().item<double>(), rounding);
    EXPECT_NEAR(survey.rate[layer].item<double>(),
                sink.gt(0.2).to(at::kDouble).mean().item<double>(), rounding);
    EXPECT_NEAR(survey.layer_mean[layer].item<double>(), sink.mean().item<double>(), rounding);
    const at::Tensor norm = run.cache.at({Part::resid_mid, layer}).norm(2, -1);
    EXPECT_LT((survey.norm.select(1, 2 * layer + 1) - norm).abs().max().item<double>(), 1e-4);
    const at::Tensor p0 = run.cache.at({Part::resid_pre, layer}).select(1, 0);
    const at::Tensor cosine = at::cosine_similarity(p0, p0.mean(0, true), -1).mean();
    EXPECT_NEAR(survey.p0_cosine[2 * layer].item<double>(), cosine.item<double>(), rounding);
  }
}

TEST_F(Survey, RatesFollowFromStartLayerRates) {
  // U9: (L - a) S[a:] - (L - b) S[b:] is the sum of the rates of layers a..b-1.
  const SinkSurvey survey = survey_sink(model_, inputs(), {.epsilon = 0.15});
  const int layers = config_.layers;
  for (int a = 0; a + 1 < layers; ++a) {
    const double band =
        (layers - a) * sink_rate_from(survey, a) - (layers - a - 1) * sink_rate_from(survey, a + 1);
    EXPECT_NEAR(band, survey.rate[a].item<double>(), rounding);
  }
  EXPECT_THROW(sink_rate_from(survey, layers), Error);
}

TEST_F(Survey, PoolingChangesOnlyTheOrderOfThresholdAndMean) {
  const SinkSurvey pooled = survey_sink(model_, inputs(), {.epsilon = 0.2, .pool = Pool::pooled});
  const at::Tensor expected = pooled.mean.gt(0.2).to(at::kFloat).mean(1);
  EXPECT_TRUE(at::allclose(pooled.rate, expected));
}

TEST_F(Survey, RefusesWhatItCannotMeasure) {
  Inputs one = inputs();
  one.tokens.ids = one.tokens.ids.narrow(1, 0, 1);
  EXPECT_THROW(survey_sink(model_, one), Error);
  EXPECT_THROW(survey_sink(model_, inputs(), {.epsilon = 1.5}), Error);
  EXPECT_THROW(survey_sink(model_, inputs(), {.epsilon = std::nan("")}), Error);
}

}  // namespace
}  // namespace plumb
