#include "checkpoint/dequantise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/files.h"
#include "checkpoint/mapped_file.h"
#include "plumb/hash.h"
#include "support/paths.h"

namespace plumb {
namespace {

StoredTensor stored(const std::string& dtype, const std::string& bytes) {
  StoredTensor tensor;
  tensor.info.name = "w";
  tensor.info.dtype = dtype;
  tensor.storage = storage_of(dtype);
  tensor.data = reinterpret_cast<const std::byte*>(bytes.data());
  return tensor;
}

template <class Out>
std::vector<Out> widened(const StoredTensor& tensor, std::int64_t first, std::int64_t count) {
  std::vector<Out> out(static_cast<std::size_t>(count));
  widen(tensor, first, count, out.data());
  return out;
}

/// The value of a half by the definition of the format.
double half_by_definition(std::uint32_t half) {
  const int exponent = static_cast<int>((half >> 10) & 31U);
  const double fraction = half & 1023U;
  const double sign = (half & 0x8000U) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Widen, EveryHalfIsExact) {
  std::string bytes;
  for (std::uint32_t half = 0; half < 65536; ++half) {
    bytes += test::bytes_of(static_cast<std::uint16_t>(half));
  }
  const auto single = widened<float>(stored("F16", bytes), 0, 65536);
  const auto wide = widened<double>(stored("F16", bytes), 0, 65536);
  for (std::uint32_t half = 0; half < 65536; ++half) {
    const double expected = half_by_definition(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(single[half]) && std::isnan(wide[half])) << half;
      continue;
    }
    ASSERT_EQ(wide[half], expected) << half;
    ASSERT_EQ(static_cast<double>(single[half]), expected) << half;
    ASSERT_EQ(std::signbit(single[half]), half >= 0x8000) << half;
  }
}

TEST(Widen, EveryBrainFloatIsTheUpperHalfOfAFloat) {
  std::string bytes;
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    bytes += test::bytes_of(static_cast<std::uint16_t>(upper));
  }
  const auto values = widened<float>(stored("BF16", bytes), 0, 65536);
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(values[upper]), upper << 16);
  }
}

TEST(Widen, DoublesRoundToFloatAndStayExactInDouble) {
  const std::vector<double> values = {0.1, -1.0 / 3, 1e-300, 3e38, 16777217.0};
  std::string bytes;
  for (const double value : values) bytes += test::bytes_of(value);
  EXPECT_EQ(widened<double>(stored("F64", bytes), 0, 5), values);
  const auto single = widened<float>(stored("F64", bytes), 0, 5);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(single[i], static_cast<float>(values[i]));
  }
}

TEST(Widen, DoesNotNeedAlignment) {
  const std::string bytes = "?" + test::floats({1.0F, -2.5F, 3.25F});
  StoredTensor tensor = stored("F32", bytes);
  tensor.data += 1;
  EXPECT_EQ(widened<float>(tensor, 1, 2), (std::vector<float>{-2.5F, 3.25F}));
  EXPECT_EQ(widened<double>(tensor, 0, 2), (std::vector<double>{1.0, -2.5}));
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

const std::vector<std::string> quantised = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K",
                                            "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "MXFP4"};

nlohmann::json golden() {
  return nlohmann::json::parse(
      test::read_bytes(test::source_dir() / "tests/golden/gguf/expected.json"));
}

// The reference is PyPI's gguf (tests/golden/make_gguf_goldens.py), for Q8_K the definition of the
// block; equal in every bit, signs of zeros too.
TEST(Widen, QuantisedBlocksEqualTheReference) {
  const auto expected = golden()["blocks"];
  ASSERT_EQ(expected.size(), quantised.size());
  for (const std::string& type : quantised) {
    const std::string bytes = from_hex(expected[type]["bytes"]);
    const std::string values = from_hex(expected[type]["float32"]);
    const auto count = static_cast<std::int64_t>(values.size() / 4);
    const StoredTensor tensor = stored(type, bytes);
    const std::int64_t block = block_elements(tensor.storage);
    ASSERT_EQ(count, 8 * block) << type;
    const auto single = widened<float>(tensor, 0, count);
    const auto wide = widened<double>(tensor, 0, count);
    for (std::size_t i = 0; i < single.size(); ++i) {
      float wanted = 0;
      std::memcpy(&wanted, values.data() + 4 * i, 4);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(single[i]), std::bit_cast<std::uint32_t>(wanted))
          << type << " " << i << ": " << single[i] << " for " << wanted;
      ASSERT_EQ(std::bit_cast<std::uint64_t>(wide[i]),
                std::bit_cast<std::uint64_t>(static_cast<double>(wanted)))
          << type << " " << i;
    }
    // A part in the middle equals the same part of the whole.
    const auto part = widened<float>(tensor, 3 * block, 2 * block);
    for (std::size_t i = 0; i < part.size(); ++i) {
      EXPECT_EQ(part[i], single[static_cast<std::size_t>(3 * block) + i]) << type;
    }
  }
}

// Offsets of the upper bytes of the halves in a block, whose exponents `ManyRandomBlocks` keeps
// finite; that of Q8_K's float, and MXFP4's exponent.
const std::map<std::string, std::vector<std::size_t>> upper_bytes = {
    {"Q4_0", {1}},    {"Q4_1", {1, 3}},   {"Q5_0", {1}},   {"Q5_1", {1, 3}},
    {"Q8_0", {1}},    {"Q2_K", {81, 83}}, {"Q3_K", {109}}, {"Q4_K", {1, 3}},
    {"Q5_K", {1, 3}}, {"Q6_K", {209}},    {"Q8_K", {3}},   {"MXFP4", {0}}};
const std::map<std::string, std::pair<std::uint64_t, std::size_t>> number_and_bytes = {
    {"Q4_0", {2, 18}},   {"Q4_1", {3, 20}},   {"Q5_0", {6, 22}},   {"Q5_1", {7, 24}},
    {"Q8_0", {8, 34}},   {"Q2_K", {10, 84}},  {"Q3_K", {11, 110}}, {"Q4_K", {12, 144}},
    {"Q5_K", {13, 176}}, {"Q6_K", {14, 210}}, {"Q8_K", {15, 292}}, {"MXFP4", {39, 17}}};

TEST(Widen, ManyRandomBlocksHashAsTheReference) {
  constexpr std::size_t blocks = 4096;
  const auto expected = golden()["sha256 of 4096 blocks"];
  for (const std::string& type : quantised) {
    const auto [number, size] = number_and_bytes.at(type);
    std::uint64_t state = number + 1;
    std::string bytes(blocks * size, '\0');
    for (char& byte : bytes) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      byte = static_cast<char>(state >> 56);
    }
    for (const std::size_t at : upper_bytes.at(type)) {
      for (std::size_t block = 0; block < blocks; ++block) {
        char& byte = bytes[block * size + at];
        byte = static_cast<char>(byte & 0xBF);
      }
    }
    const StoredTensor tensor = stored(type, bytes);
    const auto count = static_cast<std::int64_t>(blocks) * block_elements(tensor.storage);
    const auto values = widened<float>(tensor, 0, count);
    EXPECT_EQ(sha256_hex(values.data(), values.size() * sizeof(float)),
              expected[type].get<std::string>())
        << type;
  }
}

TEST(Widen, RefusesATypeItDoesNotReadByName) {
  const auto path = test::scratch_dir() / "weights";
  test::write_bytes(path, "x");
  const MappedFile file(path);
  StoredTensor tensor = stored("IQ4_XS", "x");
  tensor.file = &file;
  float out = 0;
  test::expect_error([&] { widen(tensor, 0, 1, &out); }, ErrorKind::unsupported,
                     {"\"w\"", "IQ4_XS", "Q8_K"});
}

TEST(Widen, FindsTheFirstValueThatIsNotFinite) {
  std::vector<float> values(10'000, 3e38F);
  EXPECT_EQ(first_non_finite(values.data(), 10'000), -1);
  values[9'999] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(first_non_finite(values.data(), 10'000), 9'999);
  values[4'096] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_non_finite(values.data(), 10'000), 4'096);
  std::vector<double> wide(5'000, 1e308);
  EXPECT_EQ(first_non_finite(wide.data(), 5'000), -1);
  wide[1] = std::numeric_limits<double>::infinity();
  EXPECT_EQ(first_non_finite(wide.data(), 5'000), 1);
}

}  // namespace
}  // namespace plumb
