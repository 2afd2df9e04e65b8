// What the tasks that models train on are said to be.
#include "plumb/train_task.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "plumb/error.h"
#include "plumb/model.h"
#include "plumb/train.h"

namespace plumb::test {
namespace {

constexpr std::int64_t sequences = 400;

std::int64_t at(const at::Tensor& ids, std::int64_t b, std::int64_t t) {
  return ids.accessor<std::int64_t, 2>()[b][t];
}

TEST(TrainTask, ASeedMeansTheSameSequences) {
  for (const TrainTask task :
       {TrainTask::double_existence, TrainTask::bigram_backcopy, TrainTask::induction}) {
    const TaskOptions options{.task = task, .vocab = 32, .length = 20, .seed = 5};
    const TaskBatch first = Task(options).training(3, 6);
    const TaskBatch again = Task(options).training(3, 6);
    EXPECT_TRUE(at::equal(first.ids, again.ids));
    EXPECT_TRUE(at::equal(first.active, again.active));
    EXPECT_FALSE(at::equal(first.ids, Task(options).training(4, 6).ids));
    EXPECT_FALSE(at::equal(first.ids, Task(options).held_out(3, 6).ids));
    // A batch's first sequences are those of a smaller batch.
    EXPECT_TRUE(at::equal(first.ids.narrow(0, 0, 2), Task(options).training(3, 2).ids));
    EXPECT_GE(first.ids.min().item<std::int64_t>(), 0);
    EXPECT_LT(first.ids.max().item<std::int64_t>(), 32);
  }
}

// The rule is found back from the sequences alone: which ids follow silent queries is one group of
// a quarter of the vocabulary, and no other.
TEST(TrainTask, DoubleExistenceDrawsFromOneGroupForEachAnswer) {
  const TaskOptions options{.vocab = 32, .length = 24, .seed = 1};
  const TaskBatch batch = Task(options).held_out(0, sequences);
  std::set<std::int64_t> after_silent;
  std::set<std::int64_t> after_active;
  std::int64_t active = 0;
  for (std::int64_t b = 0; b < sequences; ++b) {
    for (std::int64_t t = 0; t + 1 < options.length; ++t) {
      const bool is_active = batch.active[b][t].item<bool>();
      (is_active ? after_active : after_silent).insert(at(batch.ids, b, t + 1));
      active += is_active ? 1 : 0;
    }
  }
  EXPECT_EQ(after_silent.size(), 8U);
  EXPECT_EQ(after_active.size(), 24U);
  for (const std::int64_t id : after_silent) EXPECT_FALSE(after_active.contains(id));
  EXPECT_GT(active, sequences);
}

// A query is active because of earlier tokens: alone, a token is active only if a permutation maps
// it to itself.
TEST(TrainTask, DoubleExistenceDependsOnWhatOccurred) {
  const TaskOptions options{.vocab = 32, .length = 24, .seed = 2};
  const TaskBatch batch = Task(options).held_out(0, sequences);
  const double first = batch.active.select(1, 0).to(at::kDouble).mean().item<double>();
  const double last = batch.active.select(1, 23).to(at::kDouble).mean().item<double>();
  EXPECT_LT(first, 0.25);
  EXPECT_GT(last, first + 0.1);
}

TEST(TrainTask, TheStartRuleHoldsInTrainingAlone) {
  const TaskOptions with{.vocab = 32, .length = 8, .seed = 3};
  TaskOptions without = with;
  without.start_rule = false;
  const auto seconds = [](const TaskBatch& batch) {
    std::set<std::int64_t> ids;
    for (std::int64_t b = 0; b < sequences; ++b) ids.insert(at(batch.ids, b, 1));
    return ids;
  };
  const auto ruled = seconds(Task(with).training(0, sequences));
  const auto plain = seconds(Task(without).training(0, sequences));
  EXPECT_EQ(ruled.size(), 8U);
  EXPECT_NE(ruled, plain);
  EXPECT_EQ(seconds(Task(with).held_out(0, sequences)),
            seconds(Task(without).held_out(0, sequences)));
  // First tokens are uniform with and without it.
  EXPECT_TRUE(at::equal(Task(with).training(0, sequences).ids.select(1, 0),
                        Task(without).training(0, sequences).ids.select(1, 0)));
}

TEST(TrainTask, BackcopyRepeatsTheTokenBeforeATrigger) {
  const TaskOptions options{
      .task = TrainTask::bigram_backcopy, .vocab = 16, .length = 30, .bos = true, .seed = 4};
  const TaskBatch batch = Task(options).training(0, 50);
  std::set<std::int64_t> triggers;
  for (std::int64_t b = 0; b < 50; ++b) {
    EXPECT_EQ(at(batch.ids, b, 0), 0);
    for (std::int64_t t = 1; t < options.length; ++t) {
      EXPECT_NE(at(batch.ids, b, t), 0);
      if (!batch.active[b][t].item<bool>()) continue;
      triggers.insert(at(batch.ids, b, t));
      if (t + 1 == options.length) continue;
      EXPECT_EQ(at(batch.ids, b, t + 1), at(batch.ids, b, t - 1));
    }
  }
  EXPECT_EQ(triggers.size(), 3U);
}

TEST(TrainTask, InductionRepeatsOneString) {
  const TaskOptions options{.task = TrainTask::induction, .vocab = 64, .length = 24, .seed = 4};
  const TaskBatch batch = Task(options).training(0, 50);
  std::set<std::int64_t> periods;
  for (std::int64_t b = 0; b < 50; ++b) {
    const std::int64_t period = 24 - batch.active[b].sum().item<std::int64_t>();
    periods.insert(period);
    EXPECT_GE(period, 6);
    EXPECT_LE(period, 12);
    for (std::int64_t t = period; t < 24; ++t)
      EXPECT_EQ(at(batch.ids, b, t), at(batch.ids, b, t - period));
  }
  EXPECT_GT(periods.size(), 3U);
}

TEST(TrainTask, WrongOptionsAreRefused) {
  const auto kind = [](const TaskOptions& options) {
    try {
      const Task task(options);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  EXPECT_EQ(kind({.vocab = 30}), ErrorKind::bad_argument);
  EXPECT_EQ(kind({.vocab = 4}), ErrorKind::bad_argument);
  EXPECT_EQ(kind({.length = 3}), ErrorKind::bad_argument);
  EXPECT_EQ(kind({.bos = true}), ErrorKind::bad_argument);
  EXPECT_THROW(parse_train_task("copy"), Error);
  EXPECT_EQ(parse_train_task("induction"), TrainTask::induction);
}

// A model that attends uniformly and predicts uniformly: both are known in closed form.
TEST(TrainTask, MeasuresOfAModelThatKnowsNothingAreThoseOfChance) {
  const TaskOptions options{.vocab = 32, .length = 16, .seed = 6};
  const ModelConfig config = model_config(
      ModelStyle::llama,
      {.layers = 2, .heads = 2, .d_model = 16, .d_mlp = 16, .vocab = 32, .context = 16});
  const Model model(config,
                    [&](Weight weight, int layer) {
                      const auto shape = weight_shape(config, weight, layer);
                      return shape.empty() ? at::Tensor() : at::zeros(shape);
                    },
                    "zeros", {.threads = 1});
  const TaskBatch batch = Task(options).held_out(0, 20);
  const TaskMeasure measure = measure_task(model, batch);
  constexpr double rounding = 1e-5;  // float32
  EXPECT_NEAR(measure.loss_silent, std::log(32.0), rounding);
  EXPECT_NEAR(measure.loss_active, std::log(32.0), rounding);
  double sum = 0.0;
  double count = 0.0;
  for (std::int64_t b = 0; b < 20; ++b) {
    for (std::int64_t t = 4; t < 16; ++t) {
      if (batch.active[b][t].item<bool>()) continue;
      sum += 1.0 / static_cast<double>(t + 1);
      count += 1.0;
    }
  }
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 2; ++head)
      EXPECT_NEAR(measure.sink_silent[layer][head].item<double>(), sum / count, rounding);
  }
}

}  // namespace
}  // namespace plumb::test
