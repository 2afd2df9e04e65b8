// Models in several GGUF files, and what can be wrong with the parts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/files.h"
#include "checkpoint/tiny_gguf.h"
#include "plumb/checkpoint.h"
#include "plumb/hash.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::bytes_of;
using test::expect_error;
using test::GgufBuilder;
using test::TinyLlama;

constexpr std::uint32_t type_u16 = 2;

void say(GgufBuilder& build, std::uint16_t number, std::uint16_t count,
         std::optional<std::uint32_t> tensors = {}) {
  build.raw("split.no", type_u16, bytes_of(number)).raw("split.count", type_u16, bytes_of(count));
  if (tensors) build.u32("split.tensors.count", *tensors);
}

/// A tiny model of which two more parts hold a bias of one layer each; every piece can be changed
/// before it is written.
struct Parts {
  fs::path directory = test::scratch_dir() / "parts";
  TinyLlama first;
  GgufBuilder second;
  GgufBuilder third;

  Parts() {
    say(first.build, 0, 3, 14);
    say(second, 1, 3);
    say(third, 2, 3);
    second.tensor("blk.0.attn_q.bias", {4}, 0, test::floats({0, 1, 2, 3}))
        .tensor("blk.0.attn_k.bias", {4}, 0, test::floats({0, 0, 0, 0}));
    third.tensor("blk.0.attn_v.bias", {4}, 0, test::floats({4, 5, 6, 7}));
  }
  fs::path path(int number) const {
    return directory / ("m-0000" + std::to_string(number) + "-of-00003.gguf");
  }
  fs::path write() const {
    fs::remove_all(directory);
    fs::create_directories(directory);
    test::write_bytes(path(1), first.build.bytes());
    test::write_bytes(path(2), second.bytes());
    test::write_bytes(path(3), third.bytes());
    return path(1);
  }
};

void refuses(const fs::path& path, const std::vector<std::string>& parts,
             ErrorKind kind = ErrorKind::bad_file) {
  expect_error([&] { Checkpoint::open(path); }, kind, parts);
}

TEST(GgufSplit, TheFirstPartOpensAll) {
  const Parts parts;
  const Checkpoint checkpoint = Checkpoint::open(parts.write());
  EXPECT_EQ(checkpoint.name(), "m");
  EXPECT_EQ(checkpoint.tensors().size(), 14U);
  EXPECT_TRUE(checkpoint.config().qkv_bias);
  EXPECT_TRUE(at::equal(checkpoint.read(Weight::q_bias), at::tensor({0.F, 2.F, 1.F, 3.F})));
  EXPECT_TRUE(at::equal(checkpoint.read(Weight::v_bias), at::tensor({4.F, 5.F, 6.F, 7.F})));
}

TEST(GgufSplit, TheHashIsThatOfTheListOfHashes) {
  const Parts parts;
  parts.write();
  std::string lines;
  for (int part = 1; part <= 3; ++part) {
    const std::string bytes = test::read_bytes(parts.path(part));
    lines +=
        sha256_hex(bytes.data(), bytes.size()) + "  " + parts.path(part).filename().string() + "\n";
  }
  EXPECT_EQ(Checkpoint::open(parts.path(1)).sha256(), sha256_hex(lines.data(), lines.size()));
}

TEST(GgufSplit, AnotherPartSaysWhichIsTheFirst) {
  const Parts parts;
  parts.write();
  refuses(parts.path(2), {parts.path(2).string(), "part 2 of the 3", parts.path(1).string()});
  fs::rename(parts.path(3), parts.directory / "x.gguf");
  refuses(parts.directory / "x.gguf", {"part 3 of the 3", "give the first part"});
}

TEST(GgufSplit, TheFirstPartNeedsItsName) {
  const Parts parts;
  parts.write();
  fs::rename(parts.path(1), parts.directory / "m.gguf");
  refuses(parts.directory / "m.gguf", {"-00001-of-00003.gguf", "first of the 3 parts"});
}

TEST(GgufSplit, AMissingPartIsNamed) {
  const Parts parts;
  parts.write();
  fs::remove(parts.path(2));
  refuses(parts.path(1), {parts.path(2).string(), "missing", "part 2 of the 3"});
}

TEST(GgufSplit, PartsThatContradictAreRefused) {
  Parts wrong_number;
  wrong_number.third = GgufBuilder();
  say(wrong_number.third, 1, 3);
  refuses(wrong_number.write(), {wrong_number.path(3).string(), "part 2 of 3", "part 3 of 3"});
  Parts wrong_count;
  wrong_count.second = GgufBuilder();
  say(wrong_count.second, 1, 4);
  refuses(wrong_count.write(), {wrong_count.path(2).string(), "part 2 of 4", "part 2 of 3"});
  Parts silent;
  silent.second = GgufBuilder();
  silent.second.u32("k", 1);
  refuses(silent.write(), {silent.path(2).string(), "split.no"});
  Parts foreign;
  foreign.second.string("general.architecture", "qwen2");
  refuses(foreign.write(), {foreign.path(2).string(), "\"qwen2\"", "\"llama\""});
  Parts too_few;
  too_few.third.tensor("extra", {1}, 0, "abcd");
  refuses(too_few.write(), {"split.tensors.count is 14", "15 tensors"});
  Parts twice;
  twice.third.tensor("blk.0.attn_k.bias", {4}, 0, std::string(16, 'x'));
  refuses(twice.write(),
          {twice.path(3).string(), "\"blk.0.attn_k.bias\"", twice.path(2).filename().string()});
}

TEST(GgufSplit, DamagedPartsAreNamed) {
  const Parts parts;
  parts.write();
  const std::string bytes = test::read_bytes(parts.path(3));
  test::write_bytes(parts.path(3), bytes.substr(0, bytes.size() - 1));
  refuses(parts.path(1), {parts.path(3).string(), "truncated"});
  test::write_bytes(parts.path(3), "");
  refuses(parts.path(1), {parts.path(3).string(), "truncated"});
  fs::remove(parts.path(3));
  fs::create_directory(parts.path(3));
  refuses(parts.path(1), {parts.path(3).string(), "not a regular file"});
}

TEST(GgufSplit, KeysOutOfRangeAreRefused) {
  TinyLlama number_beyond;
  say(number_beyond.build, 3, 3);
  refuses(number_beyond.write(), {"part 4 of 3", "split.no", "split.count"});
  TinyLlama number_alone;
  number_alone.build.raw("split.no", type_u16, bytes_of(std::uint16_t{1}));
  refuses(number_alone.write(), {"part 2 of 1"});
  TinyLlama text;
  text.build.string("split.count", "3");
  refuses(text.write(), {"split.count", "integer"});
  TinyLlama huge;
  huge.build.u32("split.count", 4'000'000'000U);
  refuses(huge.write(), {"split.count", "65535"});
  // As many parts as can be said: the first that is not there ends the search.
  TinyLlama many;
  say(many.build, 0, 65535);
  refuses(many.write("m-00001-of-65535.gguf"), {"m-00002-of-65535.gguf", "missing"});
}

TEST(GgufSplit, AModelOfOnePartIsAFile) {
  TinyLlama single;
  say(single.build, 0, 1, 11);
  const fs::path path = single.write("single.gguf");
  const Checkpoint checkpoint = Checkpoint::open(path);
  const std::string bytes = test::read_bytes(path);
  EXPECT_EQ(checkpoint.sha256(), sha256_hex(bytes.data(), bytes.size()));
  TinyLlama lacking;
  say(lacking.build, 0, 1, 12);
  refuses(lacking.write(), {"split.tensors.count is 12", "the file holds 11 tensors"});
}

}  // namespace
}  // namespace plumb
