// Trainings that are killed, and go on.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include "cli/program.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> job(const fs::path& out, bool resume) {
  std::vector<std::string> words = {
      "train", "--style",       "nope",     "--layers",     "2",     "--heads",
      "2",     "--d-model",     "32",       "--d-mlp",      "32",    "--vocab",
      "32",    "--length",      "24",       "--steps",      "160",   "--batch",
      "8",     "--checkpoints", "every:40", "--save-every", "7",     "--probe-every",
      "20",    "--held-out",    "8",        "--quiet",      "--out", out.string()};
  if (resume) words.emplace_back("--resume");
  return words;
}

TEST(TrainResume, KilledAtRandomMomentsAndResumedGivesTheSameFiles) {
  const fs::path whole = scratch_dir() / "whole";
  const auto start = std::chrono::steady_clock::now();
  const Outcome undisturbed = run_plumb(job(whole, false));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  const auto duration = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  const fs::path out = scratch_dir() / "killed";
  std::mt19937 random(std::random_device{}());
  const auto longest = static_cast<unsigned>(std::max<long>(duration.count(), 100));
  for (int kills = 0; kills < 6 && !fs::exists(out / "step-000160"); ++kills) {
    Started started(job(out, true));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % longest));
    started.stop(SIGKILL);
  }
  const Outcome last = run_plumb(job(out, true));
  ASSERT_EQ(last.code, 0) << last.err;
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(whole)) {
    if (!entry.is_regular_file()) continue;
    ++files;
    const fs::path name = fs::relative(entry.path(), whole);
    EXPECT_EQ(text_of(entry.path()), text_of(out / name)) << name;
  }
  EXPECT_EQ(files, 4 + 5 * 2);
  for (const auto& entry : fs::recursive_directory_iterator(out)) {
    EXPECT_TRUE(fs::exists(whole / fs::relative(entry.path(), out))) << entry.path();
  }
}

TEST(TrainResume, ASignalSavesTheStateAndSaysSo) {
  const fs::path out = scratch_dir() / "stopped";
  Started started(job(out, false));
  for (int i = 0; i < 1500 && !fs::exists(out / "state.safetensors"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Outcome stopped = started.stop(SIGTERM);
  ASSERT_EQ(stopped.code, 6) << stopped.err;
  EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
  EXPECT_EQ(run_plumb(job(out, false)).code, 2);
  EXPECT_EQ(run_plumb(job(out, true)).code, 0);
  const Outcome again = run_plumb(job(out, true));
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("finished"), std::string::npos) << again.out;
}

TEST(TrainResume, WrongFlagsAreToldInOneLine) {
  const auto code = [](std::vector<std::string> words) {
    words.insert(words.begin(), "train");
    words.insert(words.end(), {"--out", (scratch_dir() / "none").string()});
    const Outcome outcome = run_plumb(words);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.code;
  };
  EXPECT_EQ(run_plumb({"train"}).code, 2);
  EXPECT_EQ(code({"--task", "copy"}), 2);
  EXPECT_EQ(code({"--style", "mamba"}), 2);
  EXPECT_EQ(code({"--checkpoints", "every:0"}), 2);
  EXPECT_EQ(code({"--checkpoints", "1,,2"}), 2);
  EXPECT_EQ(code({"--checkpoints", "4000"}), 2);
  EXPECT_EQ(code({"--heads", "3"}), 2);
  EXPECT_EQ(code({"--vocab", "30"}), 2);
  EXPECT_EQ(code({"--task", "induction", "--no-start-rule"}), 2);
  EXPECT_EQ(code({"--rate", "nan"}), 2);
  EXPECT_EQ(code({"--task", "text"}), 2);
  EXPECT_EQ(code({"--texts", "."}), 2);
  EXPECT_EQ(code({"--task", "text", "--texts", ".", "--vocab", "64"}), 2);
  EXPECT_EQ(code({"--task", "text", "--texts", "/nowhere"}), 3);
}

}  // namespace
}  // namespace plumb::test
