// What a tokenizer does with text and ids, on the tiny ones.
#include "plumb/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>

#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

using Ids = std::vector<std::int64_t>;
using nlohmann::json;

Tokenizer tiny(const std::string& name) { return Tokenizer::open(test::tiny_tokenizers() / name); }

Tokenizer open(const json& tokenizer, const std::vector<std::pair<std::string, json>>& more = {}) {
  auto files = more;
  files.emplace_back("tokenizer.json", tokenizer);
  return Tokenizer::open(test::directory_with(files));
}

json added(const std::string& content, int id, bool special, bool normalized = false) {
  return {{"content", content}, {"id", id}, {"special", special}, {"normalized", normalized}};
}

std::string random_bytes(std::mt19937& random) {
  std::uniform_int_distribution<int> size(0, 40);
  std::uniform_int_distribution<int> byte(0, 255);
  std::uniform_int_distribution<int> kind(0, 3);
  const std::vector<std::string> parts = {"\xe2\x82\xac", "\xf0\x9f\x91\x8d", "  ",   "12",
                                          "'ll",          "e\xcc\x81",        "\n\n", "word",
                                          "\xc2\xa0",     "<|im_end|>"};
  std::string out;
  for (int i = size(random); i > 0; --i) {
    const int what = kind(random);
    if (what == 0) {
      out += parts[static_cast<std::size_t>(byte(random)) % parts.size()];
    } else {
      out += static_cast<char>(what == 1 ? byte(random) : 0x20 + byte(random) % 0x5f);
    }
  }
  return out;
}

TEST(Tokenizer, RoundTripsRandomBytes) {
  std::mt19937 random(11);
  for (const char* name : {"gpt2", "smollm", "llama3", "literal"}) {
    const Tokenizer tokenizer = tiny(name);
    for (int i = 0; i < 5000; ++i) {
      const std::string text = random_bytes(random);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << name;
    }
  }
}

TEST(Tokenizer, EncodesIllFormedBytesOneByOne) {
  const Tokenizer tokenizer = tiny("gpt2");
  const Ids ids = tokenizer.encode(
      "ab\xff\xfe"
      "cd");
  Ids expected = tokenizer.encode("ab");
  for (const char* part : {"\xff", "\xfe", "cd"}) {
    const Ids more = tokenizer.encode(part);
    expected.insert(expected.end(), more.begin(), more.end());
  }
  EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, NormalisesBeforeItSplits) {
  const Tokenizer tokenizer = tiny("qwen2");
  EXPECT_EQ(tokenizer.encode("cafe\u0301"), tokenizer.encode("caf\u00e9"));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("e\u0301\xff \u212b")), "\u00e9\xff \u00c5");
}

TEST(Tokenizer, MergesByRank) {
  const Tokenizer tokenizer = open(test::small_tokenizer());
  const Ids ids = tokenizer.encode("abcab");
  ASSERT_EQ(ids.size(), 2U);
  EXPECT_EQ(tokenizer.show(ids[0]), "abc");
  EXPECT_EQ(tokenizer.show(ids[1]), "ab");
}

TEST(Tokenizer, AcceptsMergesAsPairs) {
  json pairs = test::small_tokenizer();
  pairs["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"]])");
  EXPECT_EQ(open(pairs).encode("abcab"), open(test::small_tokenizer()).encode("abcab"));
}

TEST(Tokenizer, TakesTheLongestAddedToken) {
  json file = test::small_tokenizer();
  file["added_tokens"] = {added("<a>", 300, true), added("<a><b>", 301, false)};
  const Tokenizer tokenizer = open(file);
  EXPECT_EQ(tokenizer.encode("<a><a><b><a"),
            (Ids{300, 301, tokenizer.encode("<")[0], tokenizer.encode("a")[0]}));
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(301));
  EXPECT_EQ(tokenizer.decode({301, 300}), "<a><b><a>");
  EXPECT_EQ(tokenizer.size(), 302);
}

TEST(Tokenizer, ShowsWhatAPersonCanRead) {
  json file = test::small_tokenizer();
  file["added_tokens"] = {added(" \n\t\r\x1b\u00e9\u200b\u0085\u2028 ", 300, false)};
  const Tokenizer tokenizer = open(file);
  EXPECT_EQ(tokenizer.show(300),
            " \\n\\t\\x0d\\x1b\u00e9\\xe2\\x80\\x8b\\xc2\\x85\\xe2\\x80\\xa8 ");
  EXPECT_EQ(tokenizer.show(tokenizer.encode("\xe2").at(0)), "\\xe2");
  EXPECT_EQ(tokenizer.show(299), "<299>");
  EXPECT_EQ(tokenizer.show(-1), "<-1>");
}

TEST(Tokenizer, RefusesToDecodeIdsItDoesNotHave) {
  json file = test::small_tokenizer();
  file["added_tokens"] = {added("<a>", 300, true)};
  const Tokenizer tokenizer = open(file);
  for (const std::int64_t id :
       {std::int64_t{-1}, std::int64_t{299}, std::int64_t{301}, std::int64_t{1} << 40}) {
    try {
      tokenizer.decode({0, id});
      ADD_FAILURE() << id << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
      EXPECT_EQ(std::string(error.what()).find(std::to_string(id)), 0U) << error.what();
    }
  }
}

TEST(Tokenizer, NamesAByteThatTheVocabularyLacks) {
  json file = test::small_tokenizer();
  file["model"]["vocab"].erase("z");
  const Tokenizer tokenizer = open(file);
  try {
    tokenizer.encode("jazz");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
    EXPECT_NE(std::string(error.what()).find("0x7a"), std::string::npos) << error.what();
  }
}

TEST(Tokenizer, TakesBosFromTheTemplate) {
  const Tokenizer tokenizer = tiny("llama3");
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.encode("a").size(), 1U) << "encode itself adds none";
}

TEST(Tokenizer, LetsTokenizerConfigDecide) {
  json file = test::small_tokenizer();
  file["added_tokens"] = {added("<s>", 300, true), added("</s>", 301, true)};
  const json model_config = {{"bos_token_id", 5}, {"eos_token_id", {6, 7}}};

  const Tokenizer from_model = open(file, {{"config.json", model_config}});
  EXPECT_EQ(from_model.bos(), 5);
  EXPECT_EQ(from_model.eos(), 6);
  EXPECT_FALSE(from_model.adds_bos());

  const json named = {
      {"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}, {"add_bos_token", true}};
  const Tokenizer by_name =
      open(file, {{"config.json", model_config}, {"tokenizer_config.json", named}});
  EXPECT_EQ(by_name.bos(), 300);
  EXPECT_EQ(by_name.eos(), 301);
  EXPECT_TRUE(by_name.adds_bos());

  const json none = {{"bos_token", nullptr}, {"eos_token", "</s>"}, {"add_bos_token", true}};
  const Tokenizer without =
      open(file, {{"config.json", model_config}, {"tokenizer_config.json", none}});
  EXPECT_EQ(without.bos(), std::nullopt);
  EXPECT_FALSE(without.adds_bos());

  EXPECT_EQ(open(file).bos(), std::nullopt);
}

TEST(Tokenizer, AddsTokensThatOnlyTokenizerConfigNames) {
  const json config = {
      {"added_tokens_decoder", {{"300", {{"content", "<x>"}, {"special", true}}}}}};
  const Tokenizer tokenizer = open(test::small_tokenizer(), {{"tokenizer_config.json", config}});
  EXPECT_EQ(tokenizer.encode("<x>"), (Ids{300}));
  EXPECT_TRUE(tokenizer.is_special(300));
}

TEST(Tokenizer, TakesBosFromGgufMetadata) {
  const json file = test::read_json(test::tiny_tokenizers() / "smollm" / "tokenizer.json");
  test::GgufWriter gguf = test::gguf_of(file, "smollm");
  gguf.u32("tokenizer.ggml.bos_token_id", 1);
  gguf.u32("tokenizer.ggml.eos_token_id", 2);
  gguf.flag("tokenizer.ggml.add_bos_token", true);
  const Tokenizer tokenizer = Tokenizer::open(gguf.write());
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_FALSE(tokenizer.is_special(3));
}

TEST(BundledTexts, AreSixtyFourLinesWithDifferentBeginnings) {
  std::ifstream file(test::source_dir() / "data" / "inputs" / "texts.txt");
  std::set<std::string> beginnings;
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    beginnings.insert(line.substr(0, line.find(' ')));
    EXPECT_GE(std::count(line.begin(), line.end(), ' '), 145) << line;
    EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c <= '~'; }));
  }
  EXPECT_EQ(lines, 64);
  EXPECT_EQ(beginnings.size(), 64U);
}

}  // namespace
}  // namespace plumb
