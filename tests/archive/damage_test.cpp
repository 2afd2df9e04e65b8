// Full disks, kills and damaged files.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_bytes(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

// While it lives, no file can grow beyond `bytes`; the system then says EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_ = {};
};

void write_small(const fs::path& file, double value) {
  ArchiveWriter writer(file);
  writer.dataset("/x", at::full({3}, value));
  writer.close();
}

double read_small(const fs::path& file) {
  return Archive(file).tensor("/x").select(0, 0).item<double>();
}

std::ptrdiff_t open_descriptors() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

TEST(ArchiveDamage, OfAFullDiskIsOneErrorAndKeepsThePreviousFile) {
  // Limits at which creation, a dataset or only the closing runs out of space.
  for (const rlim_t limit : {0, 100, 1000, 5'000, 100'000, 1'000'000}) {
    const fs::path file = test::scratch_dir() / "x.h5";
    write_small(file, 7.0);
    std::string message;
    {
      const FileSizeLimit full(limit);
      try {
        ArchiveWriter writer(file);
        for (int i = 0; i < 20; ++i) {
          writer.dataset("/group/" + std::to_string(i), at::rand({400, 100}), {{"row", "column"}});
        }
        writer.close();
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::bad_file);
        message = error.what();
      }
    }
    EXPECT_NE(message.find("File too large"), std::string::npos) << limit << ": " << message;
    EXPECT_NE(message.find(file.string()), std::string::npos) << message;
    EXPECT_FALSE(fs::exists(file.string() + ".part"));
    EXPECT_EQ(read_small(file), 7.0);
    write_small(file, 8.0);  // and HDF5 is none the worse for it
    EXPECT_EQ(read_small(file), 8.0);
  }
}

TEST(ArchiveDamage, StaysAnErrorUntilTheWriterIsGone) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  {
    const FileSizeLimit full(10'000);
    EXPECT_THROW(writer.dataset("/big", at::rand({100'000})), Error);
  }
  EXPECT_THROW(writer.dataset("/small", at::ones({1})), Error);
  EXPECT_THROW(writer.close(), Error);
  EXPECT_FALSE(fs::exists(file));
}

TEST(ArchiveDamage, NamesTheReasonForWhichAFileCannotBeMade) {
  const fs::path dir = test::scratch_dir();
  write_bytes(dir / "file", "");
  const std::pair<fs::path, std::string> cases[] = {
      {dir / "absent" / "x.h5", "No such file or directory"},
      {dir / "file" / "x.h5", "Not a directory"},
      {dir, "directory"}};
  for (const auto& [path, reason] : cases) {
    try {
      const ArchiveWriter writer(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file);
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  }
}

TEST(ArchiveDamage, IsNotDoneByAWriterThatDoesNotClose) {
  const fs::path file = test::scratch_dir() / "x.h5";
  {
    ArchiveWriter writer(file);
    writer.dataset("/x", at::ones({3}));
  }
  EXPECT_TRUE(fs::is_empty(file.parent_path()));
  write_small(file, 1.0);
  {
    ArchiveWriter writer(file);
    writer.dataset("/x", at::zeros({3}));
    EXPECT_EQ(read_small(file), 1.0);
  }
  EXPECT_EQ(read_small(file), 1.0);
}

TEST(ArchiveDamage, IsNotDoneByAKill) {
  const fs::path file = test::scratch_dir() / "x.h5";
  write_small(file, 1.0);
  write_bytes(file.string() + ".part", "left by a process that was killed");
  EXPECT_EQ(read_small(file), 1.0);
  write_small(file, 2.0);
  EXPECT_EQ(read_small(file), 2.0);
  EXPECT_FALSE(fs::exists(file.string() + ".part"));
}

TEST(ArchiveDamage, IsNotDoneByTwoWriters) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter first(file);
  first.dataset("/x", at::ones({3}));
  EXPECT_THROW(ArchiveWriter{file}, Error);
  first.close();
  EXPECT_EQ(read_small(file), 1.0);
}

// An archive with every layout on disk, and what it holds.
struct Sound {
  fs::path file = test::scratch_dir() / "sound.h5";
  std::map<std::string, at::Tensor> tensors = {
      {"/compact", at::arange(9, at::kLong).reshape({3, 3})},
      {"/group/chunked", at::rand({40, 30})},
      {"/group/deflated", at::arange(20'000, at::kFloat)},
      {"/scalar", at::full({}, 3.0)},
      {"/empty", at::empty({2, 0})}};
  std::vector<std::string> words = {"drain", "sink", "plumb"};
  std::string bytes;

  Sound() {
    ArchiveWriter writer(file);
    for (const auto& [path, value] : tensors) {
      writer.dataset(
          path, value,
          {std::vector<std::string>(static_cast<std::size_t>(value.dim()), "axis"), "u", "n"});
    }
    writer.dataset("/words", words);
    for (int i = 0; i < 12; ++i) writer.attribute("/provenance", "n" + std::to_string(i), 1.0);
    writer.close();
    bytes = bytes_of(file);
  }

  // Reads everything. Either a plumb::Error or the values that were written; returns whether the
  // latter. Any other exception or a wrong value fails the test.
  bool read(const fs::path& damaged) const {
    try {
      const Archive archive(damaged);
      for (const auto& [path, value] : tensors) {
        const at::Tensor back = archive.tensor(path);
        EXPECT_TRUE(back.sizes() == value.sizes() && at::equal(back, value)) << path;
        EXPECT_EQ(archive.label(path).unit, "u");
      }
      EXPECT_EQ(archive.strings("/words"), words);
      EXPECT_EQ(archive.datasets().size(), tensors.size() + 1);
      EXPECT_EQ(archive.attributes("/provenance").size(), 12U);
      return true;
    } catch (const Error&) {
      return false;
    }
  }
};

TEST(ArchiveDamage, ByTruncationIsAnError) {
  const Sound sound;
  ASSERT_TRUE(sound.read(sound.file));
  const fs::path damaged = sound.file.parent_path() / "damaged.h5";
  const std::size_t step = std::max<std::size_t>(sound.bytes.size() / 400, 1);
  for (std::size_t size = 0; size < sound.bytes.size(); size += size < 100 ? 1 : step) {
    write_bytes(damaged, sound.bytes.substr(0, size));
    EXPECT_FALSE(sound.read(damaged)) << size << " of " << sound.bytes.size() << " bytes";
  }
  write_bytes(damaged, sound.bytes.substr(0, sound.bytes.size() - 1));
  EXPECT_FALSE(sound.read(damaged));
}

TEST(ArchiveDamage, BySingleBytesIsAnErrorOrHarmless) {
  const Sound sound;
  const fs::path damaged = sound.file.parent_path() / "damaged.h5";
  std::mt19937 random(7);
  const std::ptrdiff_t open_before = open_descriptors();
  int errors = 0;
  constexpr int kTrials = 1500;
  for (int i = 0; i < kTrials; ++i) {
    std::string bytes = sound.bytes;
    const std::size_t at = random() % bytes.size();
    bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1 + random() % 255));
    write_bytes(damaged, bytes);
    errors += sound.read(damaged) ? 0 : 1;
    ASSERT_FALSE(testing::Test::HasFailure()) << "byte " << at;
  }
  EXPECT_GT(errors, kTrials / 4);
  EXPECT_EQ(open_descriptors(), open_before) << "damaged files were left open";
}

TEST(ArchiveDamage, ByRunsOfBytesIsAnErrorOrHarmless) {
  const Sound sound;
  const fs::path damaged = sound.file.parent_path() / "damaged.h5";
  std::mt19937 random(11);
  for (int i = 0; i < 500; ++i) {
    std::string bytes = sound.bytes;
    const std::size_t length = 1 + random() % 512;
    const std::size_t from = random() % (bytes.size() - length);
    const std::size_t to = random() % (bytes.size() - length);
    bytes.replace(to, length,
                  random() % 2 == 0 ? bytes.substr(from, length)
                                    : std::string(length, static_cast<char>(random())));
    write_bytes(damaged, bytes);
    (void)sound.read(damaged);
    ASSERT_FALSE(testing::Test::HasFailure()) << length << " bytes at " << to;
  }
}

}  // namespace
}  // namespace plumb
