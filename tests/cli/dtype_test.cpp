// --dtype: every type of arithmetic through the program.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/program.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

using Json = nlohmann::json;

Json sink_in(const std::string& dtype) {
  const Outcome outcome =
      run_plumb({"sink", "planted", "--random", "4,24", "--dtype", dtype, "--json", "--quiet"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return Json::parse(outcome.out, nullptr, false);
}

TEST(Dtype, Bfloat16MeasuresTheSameSinkUpToItsRounding) {
  // Weights and the stream keep 8 bits: 1 part in 256 each, and a planted head's scores of about 10
  // move by a few hundredths.
  constexpr double tolerance = 0.05;
  const Json wide = sink_in("f64");
  const Json narrow = sink_in("bf16");
  EXPECT_EQ(narrow.at("run").at("dtype"), "bf16");
  const Json& expected = wide.at("sink").at("mean");
  const Json& found = narrow.at("sink").at("mean");
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t layer = 0; layer < expected.size(); ++layer) {
    for (std::size_t head = 0; head < expected[layer].size(); ++head) {
      EXPECT_NEAR(found[layer][head].get<double>(), expected[layer][head].get<double>(), tolerance)
          << "L" << layer << " H" << head;
    }
  }
  EXPECT_NEAR(narrow.at("loss").get<double>(), wide.at("loss").get<double>(),
              tolerance * wide.at("loss").get<double>());
}

TEST(Dtype, Bfloat16RunsUnderEveryCommand) {
  const std::string out = scratch_dir().string();
  const Outcome p0 = run_plumb(
      {"p0", "planted", "--random", "4,24", "--dtype", "bf16", "--out", out, "--json", "--quiet"});
  EXPECT_EQ(p0.code, 0) << p0.err;
  const Json json = Json::parse(p0.out, nullptr, false);
  EXPECT_EQ(json.at("run").at("dtype"), "bf16");
  EXPECT_TRUE(json.contains("verdict"));
  const Outcome sink = run_plumb(
      {"sink", "planted", "--random", "4,24", "--dtype", "bf16", "--out", out, "--quiet"});
  EXPECT_EQ(sink.code, 0) << sink.err;
  EXPECT_EQ(run_plumb({"inspect", "planted", "--dtype", "bf16"}).code, 0);
}

TEST(Dtype, Float16ComputesOrIsRefusedInOneLine) {
  const Outcome outcome =
      run_plumb({"sink", "planted", "--random", "4,24", "--dtype", "f16", "--json", "--quiet"});
  if (outcome.code == 0) {  // LibTorch 2 does it
    EXPECT_EQ(Json::parse(outcome.out, nullptr, false).at("run").at("dtype"), "f16");
    return;
  }
  EXPECT_EQ(outcome.code, 4);
  EXPECT_NE(outcome.err.find("does not compute in float16 on the CPU; choose --dtype bf16 or f32"),
            std::string::npos)
      << outcome.err;
}

TEST(Dtype, OtherNamesAreAMistakeOfUsage) {
  const Outcome outcome = run_plumb({"sink", "planted", "--dtype", "fp8"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("f32, f64, bf16"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace plumb::test
