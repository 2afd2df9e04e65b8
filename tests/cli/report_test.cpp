// plumb report: the page of an archive, and what is refused.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(ReportProgram, MakesThePageOfASurvey) {
  const fs::path out = scratch_dir();
  const Outcome sink = run_plumb(
      {"sink", "planted", "--sequences", "4", "--length", "32", "--out", out.string(), "--quiet"});
  ASSERT_EQ(sink.code, 0) << sink.err;
  const Archive archive(out / "sink.h5");
  // 6 layers of 4 heads, 3 sequences of 32 tokens.
  EXPECT_EQ(archive.tensor("/attention/pattern").sizes(), at::IntArrayRef({3, 24, 32, 32}));
  EXPECT_FALSE(archive.strings("/inputs/shown/text").empty());

  const Outcome made = run_plumb({"report", out.string()});
  EXPECT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.err, "");
  EXPECT_TRUE(made.out.starts_with((out / "sink.html").string() + ": ")) << made.out;
  const std::string page = content(out / "sink.html");
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_NE(page.find("planted-positional-0"), std::string::npos);

  const fs::path other = out / "other.html";
  const Outcome again =
      run_plumb({"report", (out / "sink.h5").string(), "--to", other.string(), "--json"});
  const auto json = nlohmann::json::parse(again.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << again.out << again.err;
  EXPECT_EQ(json.at("command"), "report");
  EXPECT_EQ(json.at("bytes"), page.size());
  EXPECT_EQ(json.at("files").at("page"), other.string());
  EXPECT_EQ(content(other), page);
}

TEST(ReportProgram, SaysWhatItNeeds) {
  const Outcome help = run_plumb({"report", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("--to"), std::string::npos) << help.out;
  EXPECT_NE(help.out.find("ARCHIVE"), std::string::npos) << help.out;
  EXPECT_NE(run_plumb({"--help"}).out.find("\n  report "), std::string::npos);
  const auto refused = [](const std::vector<std::string>& arguments, int code,
                          const std::string& part) {
    const Outcome outcome = run_plumb(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  };
  const fs::path empty = scratch_dir();
  refused({"report"}, 2, "needs the archive");
  refused({"report", empty.string()}, 3, "neither p0.h5 nor sink.h5");
  refused({"report", (empty / "p0.h5").string()}, 3, "no such file");
  std::ofstream(empty / "p0.h5") << "text";
  refused({"report", empty.string()}, 3, "not an HDF5 file");
  refused({"report", empty.string(), "--to", (empty / "p0.h5").string()}, 2, "the archive itself");
  refused({"report", empty.string(), "--seed", "1"}, 2, "--seed means nothing to plumb report");
}

}  // namespace
}  // namespace plumb::test
