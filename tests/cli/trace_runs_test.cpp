// plumb trace of several trainings.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// Three trainings of four steps, measured at every second.
std::vector<std::string> trained() {
  std::vector<std::string> directories;
  for (const char* seed : {"0", "1", "2"}) {
    const fs::path out = scratch_dir() / (std::string("seed") + seed);
    const Outcome outcome = run_plumb(
        {"train",      "--seed",   seed, "--steps",   "4",  "--warm-up",  "1", "--probe-every",
         "2",          "--layers", "1",  "--d-model", "16", "--heads",    "2", "--d-mlp",
         "16",         "--vocab",  "32", "--length",  "12", "--held-out", "4", "--out",
         out.string(), "--quiet"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    directories.push_back(out.string());
  }
  return directories;
}

TEST(TraceRunsProgram, PutsTrainingsSideBySide) {
  const fs::path out = scratch_dir() / "side";
  const fs::path picture = scratch_dir() / "losses.svg";
  std::vector<std::string> words = {"trace"};
  for (const std::string& directory : trained()) words.push_back(directory);
  words.insert(words.end(), {"--foresee", "2,4", "--draw", "loss,silent.*", "--svg",
                             picture.string(), "--out", out.string(), "--json", "--quiet"});
  const Outcome outcome = run_plumb(words);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(text_of(out / "runs.json"), outcome.out);
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json.at("runs").size(), 3U);
  EXPECT_EQ(json.at("runs").at(1).at("name"), "seed1");
  EXPECT_EQ(json.at("runs").at(1).at("steps"), 4);
  EXPECT_EQ(json.at("foresights").at(0).at("steps"), 2);  // from steps 0 and 2
  EXPECT_NEAR(json.at("smallest_p").get<double>(), 1.0 / 6.0, 1e-12);
  EXPECT_EQ(text_of(picture).substr(0, 4), "<svg");
  EXPECT_EQ(text_of(out / "runs.svg"), text_of(picture));
  EXPECT_NE(text_of(out / "runs.txt").find("cannot tell"), std::string::npos);
}

TEST(TraceRunsProgram, RefusesInOneLine) {
  const auto refusal = [](const std::vector<std::string>& words) {
    const Outcome outcome = run_plumb(words);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.code;
  };
  const std::string here = scratch_dir().string();
  EXPECT_EQ(refusal({"trace", here, here}), 3);
  EXPECT_EQ(refusal({"trace", here, "--foresee", "10"}), 2);
  EXPECT_EQ(refusal({"trace", here, here, "--foresee", "0"}), 2);
}

}  // namespace
}  // namespace plumb::test
