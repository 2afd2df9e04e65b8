// plumb edit on a planted model.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::vector<std::string> words(const std::vector<std::string>& more) {
  std::vector<std::string> all = {"edit", "planted", "--random", "4,20", "--quiet"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(EditProgram, WritesAModelWithoutItsSink) {
  const fs::path out = scratch_dir() / "edited";
  const Outcome outcome =
      run_plumb(words({"--project-out", "sink", "--out", out.string(), "--json"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(text_of(out / "edit.json"), outcome.out);
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json.at("command"), "edit");
  EXPECT_EQ(json.at("edits").at("writers"), "a0+m0+a1+m1");
  EXPECT_EQ(json.at("edits").at("written"), out.string());
  const auto mass = [&](const char* state) {
    return json.at(state).at("sink_mass").at("mean").get<double>();
  };
  EXPECT_GT(mass("before"), 0.4);
  EXPECT_LT(mass("after"), 0.2);
  EXPECT_EQ(json.at("before").at("rounded").size(), 4U);
  EXPECT_NE(text_of(out / "edit.txt").find("Before and after"), std::string::npos);

  const Archive archive(out / "edit.h5");
  EXPECT_EQ(archive.attribute("/edit", "written"), out.string());
  EXPECT_EQ(archive.tensor("/inputs/tokens").size(0), 4);
  for (const char* state : {"before", "after", "change"}) {
    const std::string group = std::string("/edit/") + state;
    const at::Tensor each = archive.tensor(group + "/each");  // [sequence, quantity]
    ASSERT_EQ(each.size(0), 4) << state;
    std::int64_t column = 0;
    for (const char* name : {"loss", "sink_rate", "sink_mass", "slot_mass", "largest", "ratio"}) {
      const auto mean = archive.tensor(group + "/" + name)[0].item<double>();
      const auto of_each = each.select(1, column++).mean().item<double>();
      if (std::string(name) == "slot_mass") {
        EXPECT_TRUE(std::isnan(mean) && std::isnan(of_each)) << state;
      } else {
        EXPECT_DOUBLE_EQ(mean, json.at(state).at(name).at("mean").get<double>()) << name;
        EXPECT_NEAR(of_each, mean, 1e-12 * (1.0 + std::abs(mean))) << state << " " << name;
      }
    }
    const at::Tensor errors = archive.tensor(group + "/rounded/others_error");
    for (std::int64_t i = 0; i < 4; ++i) {
      const Json& rounded = json.at(state).at("rounded").at(static_cast<std::size_t>(i));
      const auto mean = rounded.at("others_error").at("mean").get<double>();
      EXPECT_DOUBLE_EQ(errors[i][0].item<double>(), mean);
    }
  }
  EXPECT_EQ(archive.tensor("/edit/direction").size(0),
            json.at("model").at("d_model").get<std::int64_t>());

  const Outcome again = run_plumb({"sink", out.string(), "--random", "4,20", "--quiet", "--json"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_TRUE(Json::parse(again.out).at("waves").empty());
  const Outcome twice = run_plumb(words({"--silence", "m0", "--out", out.string()}));
  EXPECT_EQ(twice.code, 2);
}

TEST(EditProgram, SaysWhatNoCheckpointCanHold) {
  const fs::path out = scratch_dir() / "run_time";
  const Outcome outcome = run_plumb(words({"--window", "6", "--keep", "1", "--knock-out", "m0",
                                           "--no-rounding", "--out", out.string()}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("no checkpoint can hold it"), std::string::npos) << outcome.out;
  EXPECT_TRUE(fs::exists(out / "edit.txt"));
  const Archive archive(out / "edit.h5");
  EXPECT_FALSE(archive.attribute("/edit", "not_written").empty());
  EXPECT_FALSE(archive.has("/edit/before/rounded"));
  EXPECT_FALSE(fs::exists(out / "config.json"));
}

TEST(EditProgram, WrongFlagsAreToldInOneLine) {
  const auto code = [](const std::vector<std::string>& more) {
    const Outcome outcome = run_plumb(words(more));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.code;
  };
  EXPECT_EQ(code({}), 2);
  EXPECT_EQ(code({"--silence", "m9"}), 2);
  EXPECT_EQ(code({"--silence", ""}), 2);
  EXPECT_EQ(code({"--writers", "m0"}), 2);
  EXPECT_EQ(code({"--keep", "4"}), 2);
  EXPECT_EQ(code({"--window", "0"}), 2);
  EXPECT_EQ(code({"--sink-slot", "x"}), 2);
  EXPECT_EQ(code({"--epsilon", "0", "--silence", "m0"}), 2);
  EXPECT_EQ(code({"--project-out", "/nowhere.json"}), 3);
}

}  // namespace
}  // namespace plumb::test
