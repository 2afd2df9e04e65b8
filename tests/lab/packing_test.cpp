// Documents within sequences: where they begin, and what their tokens see.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/train.h"

namespace plumb::test {
namespace {

std::shared_ptr<const Corpus> corpus() {
  Corpus made{.training = {"alpha", "be", "gamma", "delta delta"}, .held_out = {"omega", "psi"}};
  return std::make_shared<const Corpus>(made);
}

TaskOptions options_of(bool bos, bool document_bos, bool intra) {
  return {.task = TrainTask::text,
          .vocab = 256,
          .length = 16,
          .start_rule = false,
          .bos = bos,
          .seed = 3,
          .corpus = corpus(),
          .document_bos = document_bos,
          .intra_document = intra};
}

TEST(Packing, AZeroStandsBeforeEveryDocument) {
  const TaskBatch batch = Task(options_of(false, true, false)).training(0, 20);
  std::int64_t zeros = 0;
  for (std::int64_t i = 0; i < 20; ++i) {
    for (std::int64_t t = 1; t < 16; ++t) {
      const bool after_end = batch.ids[i][t - 1].item<std::int64_t>() == '\n';
      EXPECT_EQ(batch.ids[i][t].item<std::int64_t>() == 0, after_end) << i << " " << t;
      zeros += after_end ? 1 : 0;
    }
  }
  EXPECT_GT(zeros, 20);
  EXPECT_FALSE(batch.documents.defined());
}

TEST(Packing, DocumentsAreToldApart) {
  for (const bool bos : {false, true}) {
    const Task task(options_of(bos, false, true));
    const TaskBatch batch = task.training(0, 20);
    EXPECT_FALSE(task.held_out(0, 2).documents.defined());
    for (std::int64_t i = 0; i < 20; ++i) {
      const std::int64_t start = bos ? 1 : 0;
      if (bos) {
        EXPECT_EQ(batch.documents[i][0].item<std::int64_t>(), -1);
      }
      for (std::int64_t t = start + 1; t < 16; ++t) {
        const bool after_end = batch.ids[i][t - 1].item<std::int64_t>() == '\n';
        EXPECT_EQ(batch.documents[i][t].item<std::int64_t>() !=
                      batch.documents[i][t - 1].item<std::int64_t>(),
                  after_end)
            << i << " " << t;
      }
    }
  }
}

// A pattern under the mask is that of the document run alone: positions do not matter to a model
// without their encoding.
TEST(Packing, UnderTheMaskADocumentIsRunAsIfAlone) {
  const Task task(options_of(false, false, true));
  const TaskBatch batch = task.training(0, 4);
  TrainOptions options;
  options.config = model_config(
      ModelStyle::nope,
      {.layers = 2, .heads = 2, .d_model = 16, .d_mlp = 24, .vocab = 256, .context = 16});
  options.task = task.options();
  const Training training(options);
  const auto masked = plumb::run(training.model(), Tokens{.ids = batch.ids},
                                 {.interventions = task_edits(batch, 2)});
  constexpr double rounding = 1e-4;  // of logits of some tens, in float32
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t from = 0; from < 16;) {
      std::int64_t end = from + 1;
      while (end < 16 && batch.documents[i][end].equal(batch.documents[i][from])) ++end;
      const at::Tensor ids = batch.ids.narrow(0, i, 1).narrow(1, from, end - from).contiguous();
      const at::Tensor alone = plumb::run(training.model(), Tokens{.ids = ids}).logits[0];
      const at::Tensor within = masked.logits[i].narrow(0, from, end - from);
      EXPECT_LT((alone - within).abs().max().item<double>(), rounding) << i << " " << from;
      from = end;
    }
  }
}

TEST(Packing, APinnedBosIsSeenByAll) {
  const Task task(options_of(true, false, true));
  const TaskBatch batch = task.training(1, 4);
  TrainOptions options;
  options.config = model_config(
      ModelStyle::nope,
      {.layers = 1, .heads = 1, .d_model = 16, .d_mlp = 24, .vocab = 256, .context = 16});
  options.task = task.options();
  const Training training(options);
  const auto made =
      plumb::run(training.model(), Tokens{.ids = batch.ids},
                 {.record = {Site{Part::pattern, 0}}, .interventions = task_edits(batch, 1)});
  const at::Tensor pattern = made.cache.at({Part::pattern, 0});
  EXPECT_GT(pattern.select(3, 0).min().item<double>(), 0.0);
}

TEST(Packing, ContradictionsAreRefused) {
  EXPECT_THROW(check(options_of(true, true, false)), Error);
  TaskOptions none{.intra_document = true};
  EXPECT_THROW(check(none), Error);
}

}  // namespace
}  // namespace plumb::test
