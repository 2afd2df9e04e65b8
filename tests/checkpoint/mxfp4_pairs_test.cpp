#include "checkpoint/mxfp4_pairs.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/dequantise.h"
#include "checkpoint/files.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::PlainTensor;

struct File {
  explicit File(const std::vector<PlainTensor>& tensors)
      : path(test::scratch_dir() / "pairs.safetensors") {
    test::write_bytes(path, test::safetensors(tensors));
    file = std::make_unique<MappedFile>(path);
    stored = read_safetensors(*file);
  }
  std::filesystem::path path;
  std::unique_ptr<MappedFile> file;
  std::vector<StoredTensor> stored;
};

// Every nibble and every exponent but that of NaN, from the definition: the numbers of four bits
// (arXiv:2310.10537) times 2^(exponent - 127), the lower nibble first.
TEST(Mxfp4Pairs, ExpandsEveryNibbleAndExponentExactly) {
  constexpr std::array<double, 8> numbers = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  std::string blocks;
  std::string scales;
  for (int exponent = 0; exponent < 255; ++exponent) {
    scales.push_back(static_cast<char>(exponent));
    for (int i = 0; i < 16; ++i) blocks.push_back(static_cast<char>((15 - i) * 16 + i));
  }
  File file({{"w_blocks", "U8", {3, 5, 17, 16}, blocks}, {"w_scales", "U8", {3, 5, 17}, scales}});
  join_mxfp4_pairs(file.stored, "there");
  ASSERT_EQ(file.stored.size(), 1U);
  const StoredTensor& pair = file.stored.front();
  EXPECT_EQ(pair.info.name, "w");
  EXPECT_EQ(pair.info.dtype, "MXFP4");
  EXPECT_EQ(pair.info.shape, (std::vector<std::int64_t>{3, 5, 544}));
  EXPECT_EQ(pair.info.bytes, 255U * 17U);
  const auto value = [&](unsigned nibble, int exponent) {
    return (nibble & 8U ? -1 : 1) * std::ldexp(numbers[nibble & 7U], exponent - 127);
  };
  // From the second block on, as rows of a matrix are read.
  std::vector<double> wide(254 * 32);
  std::vector<float> narrow(254 * 32);
  widen(pair, 32, 254 * 32, wide.data());
  widen(pair, 32, 254 * 32, narrow.data());
  for (int block = 1; block < 255; ++block) {
    for (unsigned i = 0; i < 16; ++i) {
      const auto at = static_cast<std::size_t>(block - 1) * 32 + 2 * i;
      // Twelve times half the largest power is beyond float32.
      if (std::abs(value(i, block)) > 3.4e38 || std::abs(value(15 - i, block)) > 3.4e38) continue;
      ASSERT_EQ(wide[at], value(i, block)) << block << " " << i;
      ASSERT_EQ(wide[at + 1], value(15 - i, block)) << block << " " << i;
      ASSERT_EQ(narrow[at], static_cast<float>(wide[at]));
      ASSERT_EQ(narrow[at + 1], static_cast<float>(wide[at + 1]));
    }
  }
}

TEST(Mxfp4Pairs, RefusesHalvesAndOtherShapes) {
  const PlainTensor blocks{"w_blocks", "U8", {1, 2, 1, 16}, std::string(32, '\0')};
  const PlainTensor scales{"w_scales", "U8", {1, 2, 1}, std::string(2, '\0')};
  const auto refuses = [](const std::vector<PlainTensor>& tensors,
                          const std::vector<std::string>& parts) {
    File file(tensors);
    test::expect_error([&] { join_mxfp4_pairs(file.stored, "there"); }, ErrorKind::bad_file, parts);
  };
  refuses({blocks}, {"there", "w_blocks", "w_scales"});
  refuses({scales}, {"there", "w_scales", "w_blocks"});
  refuses({blocks, {"w_scales", "U8", {2}, std::string(2, '\0')}},
          {"w_scales", "[1, 2, 1]", "[2]"});
  refuses({blocks, {"w_scales", "F16", {1, 2, 1}, std::string(4, '\0')}}, {"w_scales", "F16"});
  refuses({scales, {"w_blocks", "U8", {1, 2, 16}, std::string(32, '\0')}}, {"w_blocks", "groups"});
  refuses({scales, {"w_blocks", "I16", {1, 2, 1, 16}, std::string(64, '\0')}}, {"w_blocks", "I16"});
  refuses({blocks, scales, {"w", "U8", {1}, "x"}}, {"tensor", "w", "appears twice"});
}

}  // namespace
}  // namespace plumb
