// What a training leaves on the disk.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "plumb/error.h"
#include "plumb/inputs.h"
#include "plumb/run.h"
#include "plumb/train.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

TrainOptions small(ModelStyle style) {
  TrainOptions options;
  options.config = model_config(
      style, {.layers = 2, .heads = 2, .d_model = 16, .d_mlp = 24, .vocab = 16, .context = 12});
  options.task = {.vocab = 16, .length = 12, .seed = 1};
  options.steps = 10;
  options.batch = 4;
  options.warm_up = 3;
  return options;
}

TrainFiles files_in(const fs::path& directory) {
  return {.directory = directory, .save_every = 3, .checkpoints = {0, 4}, .probe_every = 5};
}

/// A probe that can be checked: the number of steps taken.
Probe counting() {
  return {{"steps"}, [](const Training& training) {
            return std::vector<double>{static_cast<double>(training.steps())};
          }};
}

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(TrainFiles, CheckpointsAreTheModelsOfTheirSteps) {
  for (const ModelStyle style : {ModelStyle::llama, ModelStyle::nope, ModelStyle::gpt2}) {
    const TrainOptions options = small(style);
    const fs::path out = scratch_dir() / "run";
    Training training(options);
    train(training, files_in(out), counting());
    Training again(options);
    while (again.steps() < 4) again.advance();
    const at::Tensor ids = again.task().held_out(0, 3).ids;
    const auto logits = [&](const Model& model) { return run(model, Tokens{.ids = ids}).logits; };
    const Model model = load(out / "step-000004", {.threads = 1});
    EXPECT_EQ(model.config().family, options.config.family);
    EXPECT_TRUE(at::equal(logits(model), logits(again.model()))) << to_string(style);
    EXPECT_TRUE(
        at::equal(logits(load(out / "step-000010", {.threads = 1})), logits(training.model())));
    EXPECT_TRUE(fs::exists(out / "step-000000" / "config.json"));
    EXPECT_EQ(read_token_file(out / "held_out.json").size(), 64U);
    EXPECT_EQ(text_of(out / "probes.csv"), "step,steps\n0,0\n5,5\n10,10\n");
    EXPECT_FALSE(fs::exists(out / "state.safetensors"));
  }
}

// The progress callback stops it, as a signal does.
TEST(TrainFiles, InterruptedAndResumedTheFilesAreTheSame) {
  const TrainOptions options = small(ModelStyle::nope);
  const fs::path whole = scratch_dir() / "whole";
  Training undisturbed(options);
  train(undisturbed, files_in(whole), counting());
  for (const int stop : {0, 1, 4, 7}) {
    const fs::path out = scratch_dir() / "stopped";
    TrainFiles files = files_in(out);
    Training first(options);
    int calls = 0;
    EXPECT_THROW(train(first, files, counting(),
                       [&](std::string_view, double) {
                         if (calls++ == stop) throw Error(ErrorKind::interrupted, "stop");
                       }),
                 Error);
    Training refused(options);
    EXPECT_THROW(train(refused, files, counting()), Error);
    files.resume = true;
    std::ofstream(out / "state.safetensors.abc123") << "left by a kill";
    Training second(options);
    train(second, files, counting());
    for (const char* name : {"train.json", "train.csv", "probes.csv", "held_out.json",
                             "step-000000/model.safetensors", "step-000004/model.safetensors",
                             "step-000010/model.safetensors", "step-000010/config.json"}) {
      EXPECT_EQ(text_of(whole / name), text_of(out / name)) << name << " stopped at " << stop;
    }
    EXPECT_FALSE(fs::exists(out / "state.safetensors"));
    EXPECT_FALSE(fs::exists(out / "state.safetensors.abc123"));
    Training third(options);
    EXPECT_TRUE(train(third, files, counting()).finished_before);
    fs::remove_all(out);
  }
}

TEST(TrainFiles, AnotherTrainingInTheDirectoryIsRefused) {
  const TrainOptions options = small(ModelStyle::llama);
  TrainFiles files = files_in(scratch_dir() / "taken");
  Training first(options);
  train(first, files);
  TrainOptions other = options;
  other.rate = 1e-3;
  files.resume = true;
  Training second(other);
  try {
    train(second, files);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
  }
  EXPECT_EQ(second.steps(), 0);
}

TEST(TrainFiles, NarrowWeightsAreTheRoundedOnes) {
  const TrainOptions options = small(ModelStyle::nope);
  TrainFiles files = files_in(scratch_dir() / "narrow");
  files.store = at::kBFloat16;
  Training training(options);
  train(training, files);
  const Checkpoint checkpoint = Checkpoint::open(files.directory / "step-000010");
  EXPECT_TRUE(at::equal(checkpoint.read(Weight::q, 1),
                        training.weights().at("L1.q").to(at::kBFloat16).to(at::kFloat)));
}

}  // namespace
}  // namespace plumb::test
