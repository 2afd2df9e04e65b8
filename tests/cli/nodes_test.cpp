// What plumb attribute prints and writes of nodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class NodeProgram : public testing::Test {
 protected:
  void SetUp() override {
    pairs_ = scratch_dir() / "pairs.jsonl";
    std::ofstream(pairs_)
        << R"({"clean": [1, 2, 3, 4], "corrupt": [1, 7, 3, 4], "answers": [5, 6]})"
        << "\n"
        << R"({"clean": [4, 3, 2], "corrupt": [4, 9, 2], "answers": [8, 5]})"
        << "\n";
  }

  Outcome attribute(std::vector<std::string> flags) const {
    const std::vector<std::string> call = {"attribute", "planted", "--pairs", pairs_.string(),
                                           "--quiet"};
    flags.insert(flags.begin(), call.begin(), call.end());
    return run_plumb(flags);
  }

  Json document(const std::vector<std::string>& flags) const {
    const Outcome outcome = attribute(flags);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return Json::parse(outcome.out);
  }

  fs::path pairs_;
};

TEST_F(NodeProgram, NodesComeByFallingSizeWithTheirCheck) {
  const fs::path out = scratch_dir();
  const Json json = document({"--method", "atp*", "--check", "8", "--sets", "4", "--json", "--each",
                              "--out", out.string()});
  EXPECT_EQ(json.at("command"), "attribute");
  EXPECT_EQ(json.at("method"), "atp*");
  EXPECT_EQ(json.at("direction"), "noising");
  const Json& nodes = json.at("nodes");
  EXPECT_EQ(json.at("total").at("nodes"), nodes.size());
  double sum = 0.0;
  double last = INFINITY;
  for (const Json& node : nodes) {
    const double size = std::abs(node.at(1).get<double>());
    EXPECT_LE(size, last);
    last = size;
    sum += size;
  }
  EXPECT_NEAR(json.at("total").at("abs_sum").get<double>(), sum, 1e-9 * sum);
  EXPECT_EQ(json.at("sweeps").at(0).at("site"), "z");
  const Json& check = json.at("check");
  ASSERT_EQ(check.at("verified").size(), 8U);
  EXPECT_EQ(check.at("verified").at(0).at("node"), nodes.at(0).at(0));
  EXPECT_EQ(check.at("verified").at(0).at("as"), "strongest");
  EXPECT_EQ(check.at("verified").at(4).at("as"), "doubtful");
  EXPECT_EQ(check.at("verified").at(7).at("as"), "sampled");
  EXPECT_GT(check.at("may_exceed").get<int>(), 0);
  EXPECT_FALSE(check.at("sets").empty());
  const Archive archive(out / "attribute.h5");
  const Json& z = json.at("sweeps").at(0).at("scores");
  const at::Tensor stored = archive.tensor("/attribution/nodes/z_layer_head/scores");
  EXPECT_EQ(stored.size(0), static_cast<std::int64_t>(z.size()));
  EXPECT_EQ(stored[0][0].item<double>(), z.at(0).at(0).get<double>());
  EXPECT_EQ(archive.tensor("/attribution/nodes/z_layer_head/each").size(2), 2);
  EXPECT_EQ(archive.strings("/attribution/check/nodes").size(), 8U);
  EXPECT_TRUE(fs::exists(out / "attribute.txt"));
}

TEST_F(NodeProgram, SweepsDirectionsAndReadOutsAreTheUsers) {
  const Json json = document({"--method", "ig", "--steps", "2", "--nodes", "mlp_post:layer,neuron",
                              "--nodes", "resid_pre:layer,position", "--direction", "denoising",
                              "--metric", "sink:1", "--top", "3", "--json"});
  EXPECT_EQ(json.at("direction"), "denoising");
  EXPECT_EQ(json.at("nodes").size(), 3U);
  EXPECT_EQ(json.at("sweeps").at(1).at("axes"), Json({"layer", "position"}));
  EXPECT_NE(json.at("conventions").at("score").get<std::string>().find("2 runs"),
            std::string::npos);
  const Outcome text = attribute({"--method", "atp", "--top", "2", "--check", "4"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("VERIFIED BY PATCHING"), std::string::npos) << text.out;
}

TEST_F(NodeProgram, RefusesInOneLine) {
  const auto refused = [&](const std::vector<std::string>& flags, const std::string& why) {
    const Outcome outcome = attribute(flags);
    EXPECT_EQ(outcome.code, 2) << outcome.out;
    EXPECT_NE(outcome.err.find(why), std::string::npos) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  };
  refused({"--method", "atpp"}, "or for nodes atp");
  refused({"--method", "eap", "--nodes", "z:layer"}, "--nodes is for nodes");
  refused({"--method", "eap", "--direction", "noising"}, "--direction is for nodes");
  refused({"--method", "atp", "--edges", "m0->m1"}, "--edges is for edges");
  refused({"--method", "atp", "--by-position"}, "--nodes z:layer,position,head");
  refused({"--method", "atp", "--sets", "8"}, "--check");
  refused({"--method", "atp", "--nodes", "z:up"}, "is no axis");
  refused({"--method", "atp", "--nodes", "scores:layer"}, "not scores");
  refused({"--method", "atp", "--metric", "rank"}, "has no gradient");
}

}  // namespace
}  // namespace plumb::test
