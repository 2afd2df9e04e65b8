// The commands on tiny checkpoints whose MLPs are mixtures of experts.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/program.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

using Json = nlohmann::json;

class Mixtures : public testing::TestWithParam<std::string> {
 protected:
  Outcome ran(const std::string& command, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {
        command, (source_dir() / "tests" / "golden" / GetParam()).string(), "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_plumb(arguments);
  }
};

TEST_P(Mixtures, RunUnderEveryCommand) {
  const Outcome sink = ran("sink", {"--random", "2,9", "--json"});
  EXPECT_EQ(sink.code, 0) << sink.err;
  EXPECT_EQ(Json::parse(sink.out, nullptr, false).at("sink").at("mean").size(), 3U);
  const Outcome p0 = ran("p0", {"--random", "3,9", "--json"});
  EXPECT_EQ(p0.code, 0) << p0.err;
  EXPECT_TRUE(Json::parse(p0.out, nullptr, false).contains("verdict"));
}

TEST_P(Mixtures, AreShownByInspect) {
  const Outcome outcome = ran("inspect", {"--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out, nullptr, false);
  EXPECT_NE(json.at("switches").at("experts").get<std::string>().find("for each token"),
            std::string::npos);
  int found = 0;
  for (const Json& site : json.at("sites")) {
    if (site.at("name") != "router" && site.at("name") != "expert_out") continue;
    ++found;
    EXPECT_EQ(site.at("axes").at(2), "expert");
    EXPECT_GE(site.at("shape").at(2).get<int>(), 4);
  }
  EXPECT_EQ(found, 2);
}

INSTANTIATE_TEST_SUITE_P(Families, Mixtures,
                         testing::Values("gpt_oss_yarn", "mixtral_window", "olmoe_plain",
                                         "qwen2_moe_mixed", "qwen3_moe_mixed"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plumb::test
