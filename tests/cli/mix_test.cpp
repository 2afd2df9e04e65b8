// plumb mix on a planted model, whose sink is known.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

using Json = nlohmann::json;

TEST(Mix, WritesWhatItFound) {
  const auto out = scratch_dir();
  const Outcome outcome =
      run_plumb({"mix", "planted", "--random", "4,24", "--knock-out", "m0", "--knock-out", "a0+m1",
                 "--jacobians", "1", "--jacobian-length", "12", "--position", "5", "--out",
                 out.string(), "--json", "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(text_of(out / "mix.json"), outcome.out);
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json.at("command"), "mix");
  const Json& conditions = json.at("conditions");
  ASSERT_EQ(conditions.size(), 4U);  // no BOS, and none to remove
  for (const char* name : {"plain", "column0", "m0", "a0+m1"}) {
    const Json& one = conditions.at(name);
    EXPECT_EQ(one.at("position"), 5) << name;
    EXPECT_EQ(one.at("relative").at(0).size(), 24U) << name;
    EXPECT_EQ(one.at("reach").at(0).at("path").size(), 12U) << name;
  }
  const auto strongest = [&](const char* name) {
    const auto sink = conditions.at(name).at("sink").get<std::vector<double>>();
    return *std::max_element(sink.begin(), sink.end());
  };
  EXPECT_GT(strongest("plain"), 0.3);
  EXPECT_EQ(strongest("column0"), 0.0);
  EXPECT_LT(strongest("m0"), 0.5 * strongest("plain"));

  const Archive archive(out / "mix.h5");
  EXPECT_EQ(archive.tensor("/mix/plain/relative").size(1), 24);
  EXPECT_TRUE(archive.has("/mix/a0_m1/reach0_jacobian"));
  EXPECT_EQ(text_of(out / "mix.svg").substr(0, 4), "<svg");
  EXPECT_NE(text_of(out / "mix.txt").find("What reaches the last position"), std::string::npos);
}

TEST(Mix, GivesTheSameNumbersOnAnyNumberOfThreads) {
  const auto conditions = [](const char* threads) {
    const Outcome outcome = run_plumb({"mix", "planted", "--random", "3,16", "--jacobians", "1",
                                       "--threads", threads, "--json", "--quiet"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return Json::parse(outcome.out).at("conditions");
  };
  EXPECT_EQ(conditions("1"), conditions("3"));
}

TEST(Mix, RefusesInOneLine) {
  const Outcome outcome = run_plumb({"mix", "planted", "--knock-out", "n3", "--quiet"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("expected components like m1+m2"), std::string::npos) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
  const Outcome drawing = run_plumb({"mix", "planted", "--draw", "plain,m7", "--quiet"});
  EXPECT_EQ(drawing.code, 2);
  EXPECT_NE(drawing.err.find("plain, no_bos, column0"), std::string::npos) << drawing.err;
}

TEST(Mix, DrawsTheConditionsThatAreNamed) {
  const auto picture = scratch_dir() / "mix.svg";
  const auto drawn = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {
        "mix",         "planted", "--random", "2,12",           "--jacobians", "0",
        "--knock-out", "m0",      "--svg",    picture.string(), "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = run_plumb(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return text_of(picture);
  };
  const std::string all = drawn({});
  for (const char* title : {">plain: ", ">column0: ", ">m0: "})
    EXPECT_NE(all.find(title), std::string::npos) << title;
  // Seven entries of the stream, twelve positions, a scale of three powers of ten.
  EXPECT_NE(all.find("text-anchor=\"end\">6<"), std::string::npos);
  EXPECT_NE(all.find(">11<"), std::string::npos);
  for (const char* power : {">1<", ">0.1<", ">0.01<", ">0.001<"})
    EXPECT_NE(all.find(power), std::string::npos) << power;
  const std::string some = drawn({"--draw", "m0,plain"});
  EXPECT_NE(some.find(">plain: "), std::string::npos);
  EXPECT_NE(some.find(">m0: "), std::string::npos);
  EXPECT_EQ(some.find(">column0: "), std::string::npos);
  EXPECT_LT(some.size(), all.size());
}

}  // namespace
}  // namespace plumb::test
