// Finished tiles survive whatever ends the process that made them.
#include "plumb/tile_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

const TileLayout layout = {.experiment = "abc", .sizes = {3, 1, 2}};

at::Tensor numbers(std::int64_t tile) {
  const auto size = layout.sizes[static_cast<std::size_t>(tile)];
  return at::arange(size, at::kDouble) * 0.1 + static_cast<double>(tile) / 3;
}

ErrorKind kind_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::internal;
}

TEST(TileFile, GivesBackWhatItKept) {
  const fs::path path = test::scratch_dir() / "tiles.h5";
  {
    TileFile file(path, false);
    file.open(layout);
    EXPECT_EQ(file.count(), 3);
    EXPECT_EQ(file.finished(), 0);
    EXPECT_FALSE(file.find(1).has_value());
    file.keep(2, numbers(2));
    EXPECT_TRUE(at::equal(*file.find(2), numbers(2)));
  }
  TileFile file(path, true);
  file.open(layout);
  EXPECT_EQ(file.finished(), 1);
  EXPECT_TRUE(at::equal(*file.find(2), numbers(2)));
  EXPECT_FALSE(file.find(0).has_value());
  file.keep(0, numbers(0));
  EXPECT_TRUE(at::equal(*file.find(0), numbers(0)));
  file.remove();
  EXPECT_FALSE(fs::exists(path));
}

TEST(TileFile, RefusesAnotherExperimentAndSilentRestarts) {
  const fs::path path = test::scratch_dir() / "tiles.h5";
  { TileFile(path, false).open(layout); }
  EXPECT_EQ(kind_of([&] { TileFile(path, false).open(layout); }), ErrorKind::bad_argument);
  for (const TileLayout& other : {TileLayout{"abd", {3, 1, 2}}, TileLayout{"abc", {3, 2, 1, 1}},
                                  TileLayout{"abc", {3, 1}}, TileLayout{"abcd", {3, 1, 2}}}) {
    EXPECT_EQ(kind_of([&] { TileFile(path, true).open(other); }), ErrorKind::bad_argument);
  }
  TileFile holder(path, true);
  holder.open(layout);
  EXPECT_EQ(kind_of([&] { TileFile(path, true).open(layout); }), ErrorKind::bad_file);
}

TEST(TileFile, ADamagedTileIsComputedAgainAndADamagedFileRefused) {
  const fs::path path = test::scratch_dir() / "tiles.h5";
  {
    TileFile file(path, false);
    file.open(layout);
    for (std::int64_t tile = 0; tile < 3; ++tile) file.keep(tile, numbers(tile));
  }
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  // The values lie in one piece; damage the only one of tile 1.
  const at::Tensor one = numbers(1);
  const std::string mark(static_cast<const char*>(one.data_ptr()), sizeof(double));
  const auto place = bytes.find(mark);
  ASSERT_NE(place, std::string::npos);
  std::string damaged = bytes;
  damaged[place] = static_cast<char>(damaged[place] ^ 1);
  std::ofstream(path, std::ios::binary) << damaged;
  {
    TileFile file(path, true);
    file.open(layout);
    EXPECT_TRUE(file.find(0).has_value());
    EXPECT_FALSE(file.find(1).has_value());
    EXPECT_TRUE(file.find(2).has_value());
  }
  for (const std::size_t length : {std::size_t{0}, std::size_t{100}, bytes.size() / 2}) {
    std::ofstream(path, std::ios::binary) << bytes.substr(0, length);
    EXPECT_EQ(kind_of([&] { TileFile(path, true).open(layout); }), ErrorKind::bad_file) << length;
  }
  std::ofstream(path) << "no HDF5";
  EXPECT_EQ(kind_of([&] { TileFile(path, true).open(layout); }), ErrorKind::bad_file);
}

TEST(TileFile, AKilledProcessLosesNoFinishedTile) {
  const fs::path path = test::scratch_dir() / "tiles.h5";
  const pid_t child = fork();
  if (child == 0) {
    TileFile file(path, false);
    file.open(layout);
    file.keep(0, numbers(0));
    file.keep(1, numbers(1));
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  TileFile file(path, true);
  file.open(layout);
  EXPECT_EQ(file.finished(), 2);
  EXPECT_TRUE(at::equal(*file.find(0), numbers(0)));
  EXPECT_TRUE(at::equal(*file.find(1), numbers(1)));
}

}  // namespace
}  // namespace plumb
