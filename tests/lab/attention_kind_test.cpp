// Kinds of attention that no switch of the decoder can say, against plain formulas.
#include "plumb/attention_kind.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/train.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

constexpr AttentionKind kinds[] = {AttentionKind::softmax, AttentionKind::sink_logit,
                                   AttentionKind::gate, AttentionKind::relu,
                                   AttentionKind::sigmoid};

// Sums of float32 in another order.
constexpr double rounding = 1e-6;

TrainOptions small(AttentionKind kind) {
  TrainOptions options;
  options.attention = kind;
  options.config = with_attention(
      model_config(
          ModelStyle::llama,
          {.layers = 2, .heads = 2, .d_model = 16, .d_mlp = 24, .vocab = 16, .context = 12}),
      kind);
  options.task = {.task = TrainTask::bigram_backcopy,
                  .vocab = 16,
                  .length = 12,
                  .start_rule = false,
                  .bos = true,
                  .seed = 1};
  options.steps = 8;
  options.batch = 4;
  options.warm_up = 2;
  return options;
}

TEST(AttentionKind, NamesReadBack) {
  for (const AttentionKind kind : kinds) EXPECT_EQ(parse_attention_kind(to_string(kind)), kind);
  EXPECT_THROW(parse_attention_kind("linear"), Error);
}

TEST(AttentionKind, PatternsAreTheFormulasOfTheScores) {
  for (const AttentionKind kind : {AttentionKind::relu, AttentionKind::sigmoid}) {
    const TrainOptions options = small(kind);
    const Training training(options);
    const at::Tensor ids = training.task().held_out(0, 3).ids;
    Plan plan{.record = {Site{Part::scores, 1}, Site{Part::pattern, 1}, Site{Part::v, 1},
                         Site{Part::z, 1}},
              .interventions = attention_edits(options.config, kind)};
    const auto made = plumb::run(training.model(), Tokens{.ids = ids}, plan);
    const at::Tensor scores = made.cache.at({Part::scores, 1}).to(at::kDouble);
    const at::Tensor pattern = made.cache.at({Part::pattern, 1}).to(at::kDouble);
    const at::Tensor v = made.cache.at({Part::v, 1}).to(at::kDouble);
    const at::Tensor z = made.cache.at({Part::z, 1}).to(at::kDouble);
    for (std::int64_t q = 0; q < 12; ++q) {
      at::Tensor mixed = at::zeros({8}, at::kDouble);
      for (std::int64_t k = 0; k < 12; ++k) {
        const double score = scores[1][1][q][k].item<double>();
        double expected = 0.0;
        if (k <= q) {
          expected = kind == AttentionKind::relu ? std::max(score, 0.0) / static_cast<double>(q + 1)
                                                 : 1.0 / (1.0 + std::exp(-score));
        }
        EXPECT_NEAR(pattern[1][1][q][k].item<double>(), expected, rounding) << q << " " << k;
        mixed += expected * v[1][k][1];
      }
      EXPECT_LT((z[1][q][1] - mixed).abs().max().item<double>(), 10 * rounding) << q;
    }
  }
}

TEST(AttentionKind, EveryKindLearnsAndItsSwitchesAreItsOwn) {
  for (const AttentionKind kind : kinds) {
    TrainOptions options = small(kind);
    options.steps = 60;
    Training training(options);
    while (!training.finished()) training.advance();
    double first = 0.0;
    double last = 0.0;
    for (std::size_t i = 0; i < 10; ++i) {
      first += training.history()[i].loss;
      last += training.history()[59 - i].loss;
    }
    EXPECT_LT(last, first) << to_string(kind);
    const auto weights = training.weights();
    EXPECT_EQ(weights.contains("L0.sinks"), kind == AttentionKind::sink_logit);
    EXPECT_EQ(weights.contains("L0.z_gate"), kind == AttentionKind::gate);
    if (kind == AttentionKind::sink_logit) {
      EXPECT_GT(weights.at("L0.sinks").abs().max().item<double>(), 0.0);
    }
  }
  TrainOptions wrong = small(AttentionKind::gate);
  wrong.attention = AttentionKind::softmax;
  EXPECT_THROW(check(wrong), Error);
}

TEST(AttentionKind, OtherKindsKeepWeightsAndNoCheckpoint) {
  const TrainOptions options = small(AttentionKind::sigmoid);
  const auto out = scratch_dir() / "sigmoid";
  Training training(options);
  train(training, {.directory = out, .held_out = 4});
  EXPECT_TRUE(std::filesystem::exists(out / "step-000008" / "weights.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(out / "step-000008" / "config.json"));
  Training again(options);
  EXPECT_TRUE(train(again, {.directory = out, .resume = true, .held_out = 4}).finished_before);
  TrainOptions other = small(AttentionKind::softmax);
  EXPECT_NE(describe(options), describe(other));
}

TEST(AttentionKind, MeasuresUseTheEdits) {
  const TrainOptions options = small(AttentionKind::sigmoid);
  const Training training(options);
  const TaskBatch batch = training.task().held_out(0, 16);
  const auto edits = attention_edits(options.config, options.attention);
  const TaskMeasure measure = measure_task(training.model(), batch, edits);
  // Untrained scores are near 0, whose sigmoid is a half; a softmax over 4 to 12 keys has less.
  EXPECT_GT(measure.sink_silent.min().item<double>(), 0.4);
  EXPECT_LT(measure_task(training.model(), batch).sink_silent.max().item<double>(), 0.4);
  EXPECT_GT(measure.drain.min().item<double>(), 0.0);
  EXPECT_GT(measure.peak.min().item<double>(), 0.0);
}

}  // namespace
}  // namespace plumb::test
