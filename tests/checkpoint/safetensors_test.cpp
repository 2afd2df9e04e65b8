#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/files.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::bytes_of;
using test::expect_error;
using test::safetensors;

/// Names and pointers only; the mapping is gone.
std::vector<TensorInfo> parse(const std::string& bytes) {
  static const std::filesystem::path path = test::scratch_dir() / "t.safetensors";
  test::write_bytes(path, bytes);
  const MappedFile file(path);
  std::vector<TensorInfo> infos;
  for (const StoredTensor& tensor : read_safetensors(file)) infos.push_back(tensor.info);
  return infos;
}

void refuses(const std::string& bytes, const std::vector<std::string>& parts,
             ErrorKind kind = ErrorKind::bad_file) {
  std::vector<std::string> all = parts;
  all.emplace_back("t.safetensors");
  expect_error([&] { parse(bytes); }, kind, all);
}

std::string one(const std::string& entry, std::size_t data = 8) {
  return safetensors("{\"w\":" + entry + "}", std::string(data, '\0'));
}

TEST(Safetensors, ReadsNamesTypesAndShapes) {
  const auto infos = parse(safetensors({{"b", "F32", {2, 3}, std::string(24, '\1')},
                                        {"a", "BF16", {4}, std::string(8, '\2')},
                                        {"scalar", "F64", {}, std::string(8, '\3')},
                                        {"empty", "I8", {0, 5}, ""}}));
  ASSERT_EQ(infos.size(), 4U);
  EXPECT_EQ(infos[0].name, "a");
  EXPECT_EQ(infos[0].dtype, "BF16");
  EXPECT_EQ(infos[1].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(infos[1].bytes, 24U);
  EXPECT_EQ(infos[2].bytes, 0U);
  EXPECT_TRUE(infos[3].shape.empty());
  EXPECT_EQ(infos[3].bytes, 8U);
}

TEST(Safetensors, TakesMetadataAndPaddingSpaces) {
  const auto infos = parse(safetensors(
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}   )",
      std::string(4, '\0')));
  EXPECT_EQ(infos.size(), 1U);
}

TEST(Safetensors, RefusesAFileTooShortForItsHeader) {
  refuses("", {"truncated"});
  refuses(std::string(7, '\0'), {"truncated", "7 bytes"});
  refuses(bytes_of(std::uint64_t{100}) + "{}", {"truncated", "byte 108"});
  refuses(bytes_of(~std::uint64_t{0}) + "{}", {"header length", "18446744073709551615"});
  refuses(bytes_of(std::uint64_t{100'000'001}) + "{}", {"header length"});
}

TEST(Safetensors, RefusesAHeaderThatIsNoJsonObject) {
  refuses(safetensors("", ""), {"'{'"});
  refuses(safetensors(" {}", ""), {"'{'"});
  refuses(safetensors("[]", ""), {"'{'"});
  refuses(safetensors("{\"w\":", ""), {"not valid JSON"});
  refuses(safetensors("{}{}", ""), {"not valid JSON"});
  refuses(safetensors("{\"w\":" + std::string(50'000, '['), ""), {"nests deeper"});
}

TEST(Safetensors, RefusesAMalformedEntry) {
  refuses(one("3"), {"\"w\"", "object"});
  refuses(one(R"({"shape":[2],"data_offsets":[0,8]})"), {"\"w\"", "lacks dtype"});
  refuses(one(R"({"dtype":"F32","data_offsets":[0,8]})"), {"\"w\"", "lacks shape"});
  refuses(one(R"({"dtype":"F32","shape":[2]})"), {"\"w\"", "lacks data_offsets"});
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"), {"\"w\"", "\"x\""});
  refuses(one(R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})"), {"\"w\"", "dtype"});
  refuses(one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), {"\"w\"", "shape"});
  refuses(one(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), {"\"w\"", "shape[0]"});
  refuses(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), {"\"w\"", "shape[0]"});
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), {"\"w\"", "data_offsets"});
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), {"\"w\"", "data_offsets"});
}

TEST(Safetensors, RefusesNegativeAndOverflowingShapes) {
  refuses(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), {"\"w\"", "shape[0]"});
  refuses(one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"),
          {"\"w\"", "shape[0]"});
  // 2^33 * 2^31 elements of 4 bytes wrap to 0 in 64 bits.
  refuses(one(R"({"dtype":"F32","shape":[8589934592,2147483648],"data_offsets":[0,0]})", 0),
          {"\"w\"", "does not fill"});
  refuses(one(R"({"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]})"),
          {"\"w\"", "does not fill"});
  refuses(one("{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"
              "\"data_offsets\":[0,8]}"),
          {"\"w\"", "17 axes"});
}

TEST(Safetensors, RefusesOffsetsOutOfBounds) {
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), {"\"w\"", "backwards"});
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"),
          {"\"w\"", "data_offsets[0]"});
  refuses(one(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"), {"\"w\"", "truncated"});
  refuses(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]})"),
          {"\"w\"", "data_offsets[1]"});
}

TEST(Safetensors, RefusesASizeThatContradictsTheShape) {
  refuses(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), {"\"w\"", "F32", "[3]"});
  refuses(one(R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})"), {"\"w\"", "F64"});
  refuses(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})", 1), {"\"w\"", "does not fill"});
}

TEST(Safetensors, RefusesUnknownTypesByName) {
  refuses(one(R"({"dtype":"Q5","shape":[8],"data_offsets":[0,8]})"), {"\"w\"", "\"Q5\""},
          ErrorKind::unsupported);
}

TEST(Safetensors, RefusesOverlappingTensors) {
  refuses(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                      std::string(12, '\0')),
          {"\"b\"", "inside another tensor"});
}

TEST(Safetensors, RefusesGapsAndRests) {
  refuses(safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                      std::string(12, '\0')),
          {"\"b\"", "gap"});
  refuses(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), {"\"w\"", "gap"});
  refuses(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), {"4 bytes follow"});
  refuses(safetensors("{}", "x"), {"1 bytes follow"});
}

TEST(Safetensors, RefusesRepeatedNamesAndBadMetadata) {
  refuses(safetensors(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},)"
                      R"("a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
                      "xx"),
          {"\"a\"", "twice"});
  refuses(safetensors(R"({"__metadata__":[]})", ""), {"__metadata__"});
  refuses(safetensors(R"({"__metadata__":{"n":1}})", ""), {"__metadata__", "\"n\""});
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  const std::filesystem::path dir = test::scratch_dir();
  expect_error([&] { MappedFile file(dir); }, ErrorKind::bad_file, {dir.string(), "regular"});
  expect_error([&] { MappedFile file(dir / "absent"); }, ErrorKind::bad_file,
               {"absent", "No such file"});
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  expect_error([&] { MappedFile file(dir / "pipe"); }, ErrorKind::bad_file, {"pipe", "regular"});
}

TEST(MappedFile, NoticesThatTheFileWasShortened) {
  const std::filesystem::path path = test::scratch_dir() / "shrinking";
  test::write_bytes(path, std::string(10'000, 'x'));
  const MappedFile file(path);
  EXPECT_NO_THROW(file.check_unchanged());
  std::filesystem::resize_file(path, 100);
  expect_error([&] { file.check_unchanged(); }, ErrorKind::bad_file, {"shrinking", "10000", "100"});
}

}  // namespace
}  // namespace plumb
