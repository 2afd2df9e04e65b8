#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/dequantise.h"
#include "checkpoint/files.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::bytes_of;
using test::expect_error;
using test::GgufBuilder;

constexpr std::uint32_t type_array = 9;
constexpr std::uint32_t type_string = 8;

const std::filesystem::path& file_path() {
  static const std::filesystem::path path = test::scratch_dir() / "t.gguf";
  return path;
}

GgufFile parse(const std::string& bytes) {
  test::write_bytes(file_path(), bytes);
  return GgufFile(file_path());
}

void refuses(const std::string& bytes, const std::vector<std::string>& parts,
             ErrorKind kind = ErrorKind::bad_file) {
  std::vector<std::string> all = parts;
  all.emplace_back("t.gguf");
  expect_error([&] { parse(bytes); }, kind, all);
}

std::string array(std::uint32_t element, std::uint64_t count, const std::string& payload) {
  return bytes_of(element) + bytes_of(count) + payload;
}

GgufBuilder builder() { return GgufBuilder(); }

TEST(Gguf, ReadsEveryKindOfMetadata) {
  GgufBuilder build;
  build.raw("u8", 0, bytes_of(std::uint8_t{200}))
      .raw("i8", 1, bytes_of(std::int8_t{-100}))
      .raw("u16", 2, bytes_of(std::uint16_t{60000}))
      .raw("i16", 3, bytes_of(std::int16_t{-30000}))
      .raw("u32", 4, bytes_of(std::uint32_t{4000000000}))
      .raw("i32", 5, bytes_of(std::int32_t{-2000000000}))
      .raw("f32", 6, bytes_of(1.5F))
      .raw("bool", 7, bytes_of(std::uint8_t{1}))
      .string("text", "hello")
      .raw("u64", 10, bytes_of(std::uint64_t{1} << 62))
      .raw("i64", 11, bytes_of(std::int64_t{-5}))
      .raw("f64", 12, bytes_of(2.25))
      .raw("numbers", type_array, array(5, 3, bytes_of(1) + bytes_of(-2) + bytes_of(3)))
      .raw("strings", type_array,
           array(type_string, 2, GgufBuilder::text("a") + GgufBuilder::text("bcd")))
      .raw("nested", type_array,
           array(type_array, 2, array(0, 2, "xy") + array(type_string, 1, GgufBuilder::text("z"))))
      .raw("none", type_array, array(6, 0, ""))
      .u32("last", 9);
  const GgufFile file = parse(build.bytes());
  EXPECT_EQ(file.integer("u8", 0, 255), 200);
  EXPECT_EQ(file.integer("i8", -128, 127), -100);
  EXPECT_EQ(file.integer("u16", 0, 65535), 60000);
  EXPECT_EQ(file.integer("i16", -32768, 0), -30000);
  EXPECT_EQ(file.integer("u32", 0, INT64_MAX), 4000000000);
  EXPECT_EQ(file.integer("i32", INT64_MIN, 0), -2000000000);
  EXPECT_EQ(file.number("f32"), 1.5);
  EXPECT_TRUE(file.flag("bool", false));
  EXPECT_EQ(file.text("text"), "hello");
  EXPECT_EQ(file.integer("u64", 0, INT64_MAX), std::int64_t{1} << 62);
  EXPECT_EQ(file.integer("i64", -10, 0), -5);
  EXPECT_EQ(file.number("f64"), 2.25);
  EXPECT_EQ(file.integers("numbers"), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(file.numbers("numbers"), (std::vector<double>{1, -2, 3}));
  EXPECT_EQ(file.texts("strings"), (std::vector<std::string_view>{"a", "bcd"}));
  EXPECT_TRUE(file.numbers("none").empty());
  EXPECT_EQ(file.integer("last", 0, 10), 9);
  EXPECT_EQ(file.metadata().size(), 17U);
}

TEST(Gguf, GettersNameTheKeyOfAnotherType) {
  GgufBuilder build;
  build.u32("n", 7).string("s", "x").raw("l", type_array, array(6, 1, bytes_of(1.0F)));
  build.raw("big", 10, bytes_of(~std::uint64_t{0}));
  const GgufFile file = parse(build.bytes());
  expect_error([&] { (void)file.integer("n", 8, 9); }, ErrorKind::bad_file,
               {"\"n\"", "8 to 9", "7"});
  expect_error([&] { (void)file.integer("big", 0, INT64_MAX); }, ErrorKind::bad_file, {"\"big\""});
  expect_error([&] { (void)file.integer("s", 8, 9); }, ErrorKind::bad_file, {"\"s\""});
  expect_error([&] { (void)file.integer("l", 8, 9); }, ErrorKind::bad_file, {"\"l\""});
  expect_error([&] { (void)file.number("s"); }, ErrorKind::bad_file, {"\"s\""});
  expect_error([&] { (void)file.flag("n", true); }, ErrorKind::bad_file, {"\"n\"", "boolean"});
  expect_error([&] { (void)file.text("n"); }, ErrorKind::bad_file, {"\"n\"", "string"});
  expect_error([&] { (void)file.texts("l"); }, ErrorKind::bad_file, {"\"l\"", "strings"});
  expect_error([&] { (void)file.integers("l"); }, ErrorKind::bad_file, {"\"l\"", "integers"});
  expect_error([&] { (void)file.numbers("n"); }, ErrorKind::bad_file, {"\"n\"", "array"});
  expect_error([&] { (void)file.text("absent"); }, ErrorKind::bad_file, {"\"absent\"", "missing"});
  EXPECT_EQ(file.integer("absent", 0, 9, 4), 4);
}

TEST(Gguf, ReadsTensorsOutermostAxisFirst) {
  GgufBuilder build;
  build.tensor("b", {64, 2}, 3, std::string(80, '\1')).tensor("a", {3}, 0, std::string(12, '\2'));
  const GgufFile file = parse(build.bytes());
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.tensors()[0].info.name, "a");
  EXPECT_EQ(file.tensors()[0].data[0], std::byte{2});
  EXPECT_EQ(file.tensors()[1].info.shape, (std::vector<std::int64_t>{2, 64}));
  EXPECT_EQ(file.tensors()[1].info.dtype, "Q4_1");
  EXPECT_EQ(file.tensors()[1].info.bytes, 80U);
}

TEST(Gguf, FollowsTheAlignmentOfTheFile) {
  GgufBuilder build;
  build.alignment = 8;
  build.u32("general.alignment", 8).tensor("a", {1}, 0, "abcd").tensor("b", {1}, 0, "efgh");
  const GgufFile file = parse(build.bytes());
  EXPECT_EQ(file.tensors()[1].data - file.tensors()[0].data, 8);
  EXPECT_EQ(file.tensors()[1].data[0], std::byte{'e'});
  for (const std::uint32_t wrong : {0U, 24U, 4294967295U}) {
    refuses(builder().u32("general.alignment", wrong).tensor("a", {1}, 0, "abcd").bytes(),
            {"general.alignment"});
  }
  refuses(builder().string("general.alignment", "8").tensor("a", {1}, 0, "abcd").bytes(),
          {"general.alignment", "u32"});
}

TEST(Gguf, RefusesOtherFilesAndVersions) {
  refuses("", {"truncated"});
  refuses("GGML____________________", {"GGUF"});
  for (const std::uint32_t version : {0U, 1U, 4U}) {
    GgufBuilder build;
    build.version = version;
    refuses(build.bytes(), {"version " + std::to_string(version)}, ErrorKind::unsupported);
  }
  GgufBuilder big_endian;
  big_endian.version = 0x03000000;
  refuses(big_endian.bytes(), {"big-endian"}, ErrorKind::unsupported);
  GgufBuilder second;
  second.version = 2;
  EXPECT_NO_THROW(parse(second.bytes()));
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  GgufBuilder many_keys;
  many_keys.extra_metadata = INT64_MAX;
  refuses(many_keys.bytes(), {"metadata count"});
  GgufBuilder many_tensors;
  many_tensors.extra_tensors = INT64_MAX;
  refuses(many_tensors.bytes(), {"tensor count"});
  refuses(builder().raw("k", type_array, array(12, ~std::uint64_t{0} / 8, "")).bytes(),
          {"\"k\"", "elements"});
  refuses(builder().raw("k", type_array, array(type_string, 1 << 30, "")).bytes(),
          {"\"k\"", "elements"});
  refuses(builder().raw("k", type_string, bytes_of(~std::uint64_t{0})).bytes(), {"truncated"});
}

TEST(Gguf, RefusesMalformedMetadata) {
  refuses(builder().raw("k", 13, "xxxx").bytes(), {"\"k\"", "type 13"});
  refuses(builder().raw("k", type_array, array(77, 0, "")).bytes(), {"\"k\"", "type 77"});
  refuses(builder().raw("k", 7, bytes_of(std::uint8_t{2})).bytes(), {"\"k\"", "boolean"});
  refuses(builder().u32("k", 1).u32("k", 1).bytes(), {"\"k\"", "twice"});
  refuses(builder().u32(std::string(70'000, 'k'), 1).bytes(), {"a metadata key", "70000"});
  std::string nested = array(0, 0, "");
  for (int i = 0; i < 20; ++i) nested = array(type_array, 1, nested);
  refuses(builder().raw("k", type_array, nested).bytes(), {"\"k\"", "deeper"});
}

TEST(Gguf, RefusesMalformedTensors) {
  refuses(builder().tensor("w", {}, 0, "abcd").bytes(), {"\"w\"", "0 axes"});
  refuses(builder().tensor("w", {1, 1, 1, 1, 1}, 0, "abcd").bytes(), {"\"w\"", "5 axes"});
  refuses(builder().tensor("w", {0}, 0, "abcd").bytes(), {"\"w\"", "extent 0"});
  refuses(builder().tensor("w", {~std::uint64_t{0}}, 0, "abcd").bytes(), {"\"w\"", "extent"});
  refuses(builder().tensor("w", {1ULL << 32, 1ULL << 32}, 0, "abcd").bytes(), {"\"w\"", "extent"});
  refuses(builder().tensor("w", {1ULL << 62}, 0, "abcd").bytes(), {"\"w\""});
  refuses(builder().tensor("w", {33}, 2, std::string(36, 'x')).bytes(),
          {"\"w\"", "Q4_0", "multiple of 32"});
  refuses(builder().tensor("w", {1}, 0, "abcd").tensor("w", {1}, 0, "abcd").bytes(),
          {"\"w\"", "twice"});
}

TEST(Gguf, RefusesUnknownTensorTypesAndListsUnreadableOnes) {
  refuses(builder().tensor("w", {32}, 42, std::string(18, 'x')).bytes(), {"\"w\"", "type 42"},
          ErrorKind::unsupported);
  refuses(builder().tensor("w", {32}, ~std::uint32_t{0}, "x").bytes(), {"\"w\"", "unknown type"},
          ErrorKind::unsupported);
  refuses(builder().tensor("w", {32}, 31, std::string(18, 'x')).bytes(),
          {"\"w\"", "Q4_0_4_4", "given up"}, ErrorKind::unsupported);
  struct Unreadable {
    std::uint32_t type;
    std::string name;
    std::size_t bytes;
  };
  for (const auto& [type, name, bytes] :
       {Unreadable{16, "IQ2_XXS", 66}, Unreadable{23, "IQ4_XS", 136}, Unreadable{34, "TQ1_0", 54},
        Unreadable{40, "NVFP4", 4 * 36}}) {
    const GgufFile file =
        parse(builder().tensor("w", {256}, type, std::string(bytes, 'x')).bytes());
    EXPECT_EQ(file.tensors()[0].info.dtype, name);
    EXPECT_EQ(file.tensors()[0].storage, Storage::other);
    EXPECT_EQ(file.tensors()[0].info.bytes, bytes);
    float out = 0;
    expect_error([&] { widen(file.tensors()[0], 0, 1, &out); }, ErrorKind::unsupported,
                 {"\"w\"", name, "t.gguf"});
  }
}

TEST(Gguf, RefusesKQuantsThatAreNoWholeBlocks) {
  struct Type {
    std::uint32_t number;
    std::string name;
    std::size_t bytes;
  };
  for (const auto& [number, name, bytes] :
       {Type{10, "Q2_K", 84}, Type{11, "Q3_K", 110}, Type{12, "Q4_K", 144}, Type{13, "Q5_K", 176},
        Type{14, "Q6_K", 210}, Type{15, "Q8_K", 292}}) {
    // Two rows of half a block: as many weights as a block, but none is whole.
    refuses(builder().tensor("w", {128, 2}, number, std::string(bytes, 'x')).bytes(),
            {"\"w\"", name, "128", "multiple of 256"});
    refuses(builder().tensor("w", {256, 2}, number, std::string(2 * bytes - 1, 'x')).bytes(),
            {"\"w\"", std::to_string(2 * bytes) + " bytes", "truncated"});
    const GgufFile file =
        parse(builder().tensor("w", {256, 2}, number, std::string(2 * bytes, 'x')).bytes());
    EXPECT_EQ(block_elements(file.tensors()[0].storage), 256);
  }
  for (const auto& [number, name, bytes] : {Type{6, "Q5_0", 22}, Type{7, "Q5_1", 24}}) {
    refuses(builder().tensor("w", {48}, number, std::string(2 * bytes, 'x')).bytes(),
            {"\"w\"", name, "multiple of 32"});
    refuses(builder().tensor("w", {64}, number, std::string(2 * bytes - 1, 'x')).bytes(),
            {"\"w\"", "truncated"});
  }
}

TEST(Gguf, RefusesTensorsOutOfPlace) {
  refuses(builder().tensor("w", {2}, 0, "abcd").bytes(), {"\"w\"", "8 bytes"});
  refuses(builder().tensor("v", {1}, 0, "abcd").tensor_at("w", {1}, 0, 3).bytes(),
          {"\"w\"", "multiple of 32"});
  refuses(builder().tensor("v", {1}, 0, "abcd").tensor_at("w", {1}, 0, 64).bytes(),
          {"\"w\"", "truncated"});
  refuses(builder().tensor("v", {1}, 0, "abcd").tensor_at("w", {1}, 0, ~std::uint64_t{31}).bytes(),
          {"\"w\"", "truncated"});
  refuses(builder().tensor("v", {16}, 0, std::string(64, 'x')).tensor_at("w", {1}, 0, 32).bytes(),
          {"\"v\"", "\"w\"", "overlap"});
  refuses(builder().tensor_at("w", {1}, 0, 0).bytes(), {"truncated"});
}

}  // namespace
}  // namespace plumb
