#include <gtest/gtest.h>

#include <fstream>

#include "rooms/includes.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// A tree of one file with one include.
fs::path tree_with(const std::string& file, const std::string& include_line) {
  const fs::path tree = scratch_dir();
  fs::create_directories((tree / file).parent_path());
  std::ofstream(tree / file) << "#pragma once\n" << include_line << "\n";
  return tree;
}

/// What the rules say of that one include: the line without its place, or "" when it is allowed.
std::string verdict(const std::string& file, const std::string& include_line) {
  int files = 0;
  const auto found = forbidden_includes(tree_with(file, include_line), files);
  EXPECT_EQ(files, 1);
  if (found.empty()) return "";
  EXPECT_EQ(found.front().rfind(file + ":2: ", 0), 0U) << found.front();
  return found.front().substr(file.size() + 4);
}

TEST(Rooms, NoIncludeOfThisProjectBreaksTheRules) {
  int files = 0;
  for (const auto& line : forbidden_includes(source_dir(), files)) ADD_FAILURE() << line;
  EXPECT_GT(files, 10);
}

TEST(Rooms, AnArrowThatPointsUpIsCaught) {
  EXPECT_EQ(verdict("lib/core/a.h", "#include \"model/b.h\""),
            "room core may not include room model");
  EXPECT_EQ(verdict("lib/checkpoint/deep/a.cpp", "# include <experiment/b.h>"),
            "room checkpoint may not include room experiment");
  EXPECT_EQ(verdict("lib/experiment/a.cpp", "#include \"sink/b.h\""),
            "room experiment may not include room sink");
  EXPECT_EQ(verdict("lib/cellar/a.cpp", "#include \"core/b.h\""),
            "room cellar is not in the list of rooms");
}

TEST(Rooms, NeighboursAreSeparateButSinkMayUseCircuit) {
  EXPECT_EQ(verdict("lib/archive/a.cpp", "#include \"circuit/b.h\""),
            "room archive may not include room circuit");
  EXPECT_EQ(verdict("lib/circuit/a.cpp", "#include \"sink/b.h\""),
            "room circuit may not include room sink");
  EXPECT_EQ(verdict("lib/sink/a.cpp", "#include \"circuit/b.h\""), "");
  EXPECT_EQ(verdict("lib/lab/a.cpp", "#include \"model/b.h\""), "");
  EXPECT_EQ(verdict("lib/report/a.cpp", "#include \"archive/b.h\""), "");
}

TEST(Rooms, APublicHeaderCountsAsItsRoom) {
  EXPECT_EQ(verdict("lib/core/a.cpp", "#include \"plumb/config.h\""),
            "room core may not include plumb/config.h of room checkpoint");
  EXPECT_EQ(verdict("lib/model/a.cpp", "#include \"plumb/config.h\""), "");
  EXPECT_EQ(verdict("include/plumb/plan.h", "#include \"plumb/config.h\""),
            "room core may not include plumb/config.h of room checkpoint");
  EXPECT_EQ(verdict("lib/model/a.cpp", "#include \"plumb/mystery.h\""),
            "no room has a source named after plumb/mystery.h; say in kHeaders of "
            "tests/rooms/includes.cpp whose it is");

  const fs::path tree = tree_with("lib/circuit/a.cpp", "#include \"plumb/sink.h\"");
  fs::create_directories(tree / "lib" / "sink");
  std::ofstream(tree / "lib" / "sink" / "sink.cpp") << "#include \"plumb/sink.h\"\n";
  int files = 0;
  const auto found = forbidden_includes(tree, files);
  EXPECT_EQ(files, 2);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front(),
            "lib/circuit/a.cpp:2: room circuit may not include plumb/sink.h of room sink");
}

TEST(Rooms, ProgramsAndPublicHeadersSeeNoRoom) {
  EXPECT_EQ(verdict("apps/plumb/a.cpp", "#include \"core/b.h\""),
            "programs include plumb/ only, not room core");
  EXPECT_EQ(verdict("include/plumb/a.h", "#include \"core/b.h\""),
            "public headers include plumb/ only, not room core");
  EXPECT_EQ(verdict("apps/plumb/a.cpp", "#include \"plumb/plan.h\""), "");
}

TEST(Rooms, HeavyDependenciesStayInTheirRoom) {
  EXPECT_EQ(verdict("lib/sink/a.cpp", "#include <boost/graph/adjacency_list.hpp>"),
            "<boost/graph/adjacency_list.hpp> does not belong here");
  EXPECT_EQ(verdict("lib/report/a.cpp", "#include <hdf5.h>"), "<hdf5.h> does not belong here");
  EXPECT_EQ(verdict("lib/core/a.cpp", "#include <CLI/CLI.hpp>"),
            "<CLI/CLI.hpp> does not belong here");
  EXPECT_EQ(verdict("include/plumb/a.h", "#include <nlohmann/json.hpp>"),
            "<nlohmann/json.hpp> does not belong here");
  EXPECT_EQ(verdict("include/plumb/a.h", "#include <fmt/format.h>"),
            "<fmt/format.h> does not belong here");
  EXPECT_EQ(verdict("lib/model/a.cpp", "#include <torch/torch.h>"),
            "<torch/torch.h> does not belong here");
  EXPECT_EQ(verdict("lib/circuit/a.cpp", "#include <boost/graph/adjacency_list.hpp>"), "");
  EXPECT_EQ(verdict("lib/archive/a.cpp", "#include <hdf5.h>"), "");
  EXPECT_EQ(verdict("apps/plumb/a.cpp", "#include <CLI/CLI.hpp>"), "");
}

}  // namespace
}  // namespace plumb::test
