// Where tokens lie, what decodes to the text again, and how long texts and odd bytes fare.
#include <gtest/gtest.h>

#include <chrono>

#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

using Ids = std::vector<std::int64_t>;

Tokenizer tiny(const char* name) { return Tokenizer::open(test::tiny_tokenizers() / name); }

const std::vector<std::string>& texts() {
  static const std::vector<std::string> all =
      test::read_json(test::tiny_tokenizers() / "golden.json").at("texts");
  return all;
}

/// Texts with ill-formed bytes, which the reference cannot take.
const std::vector<std::string> ill_formed = {"\xff",
                                             "a\xe2\x82",
                                             "\xe2\x82\xac\xe2\x82 b",
                                             "caf\xc3 \xa9",
                                             "\xf0\x9f\x98 \x80 x\xfe\xfe",
                                             std::string("nul\0 \xc0\x80", 7)};

TEST(Offsets, TileTheTextWhereNothingIsNormalised) {
  for (const char* name : {"gpt2", "smollm", "llama3", "falcon", "splits", "gemma", "llama2"}) {
    const Tokenizer tokenizer = tiny(name);
    std::vector<std::string> all = texts();
    all.insert(all.end(), ill_formed.begin(), ill_formed.end());
    for (const std::string& text : all) {
      std::size_t at = 0;
      for (const TokenSpan& token : tokenizer.encode_with_offsets(text)) {
        EXPECT_EQ(token.begin, at) << name << ": " << text;
        EXPECT_GE(token.end, token.begin);
        at = token.end;
      }
      EXPECT_EQ(at, text.size()) << name << ": " << text;
    }
  }
}

TEST(Offsets, AreTheBytesThatATokenDecodesTo) {
  const Tokenizer tokenizer = tiny("smollm");
  for (const std::string& text : texts()) {
    for (const TokenSpan& token : tokenizer.encode_with_offsets(text)) {
      EXPECT_EQ(tokenizer.decode({token.id}), text.substr(token.begin, token.end - token.begin));
    }
  }
}

TEST(Offsets, TellTheBytesOfACharacterApart) {
  const Tokenizer tokenizer = tiny("llama2");
  const std::vector<TokenSpan> tokens = tokenizer.encode_with_offsets("\u20ac");
  ASSERT_EQ(tokens.size(), 4U);
  EXPECT_EQ(tokens[0].end, 0U) << "the space in front has no place";
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(tokens[i + 1].begin, i);
    EXPECT_EQ(tokens[i + 1].end, i + 1);
    EXPECT_EQ(tokens[i + 1].id, 3 + static_cast<unsigned char>("\u20ac"[i]));
  }
}

TEST(Offsets, CoverAllThatNormalisationJoined) {
  const std::string text = "x cafe\u0301 y";
  for (const char* name : {"qwen2", "neox", "sp_bpe_rules"}) {
    const Tokenizer tokenizer = tiny(name);
    bool covered = false;
    for (const TokenSpan& token : tokenizer.encode_with_offsets(text)) {
      covered = covered || (token.begin <= 5 && token.end == 8);
    }
    EXPECT_TRUE(covered) << name;
  }
}

TEST(RoundTrip, GivesTheTextBackWhereTheTokenizerLosesNothing) {
  for (const char* name : {"gpt2", "smollm", "llama3", "digit_runs", "falcon", "splits", "literal",
                           "gemma", "sp_bpe", "sp_bpe_bare", "sp_unigram_bytes", "unigram_bytes"}) {
    const Tokenizer tokenizer = tiny(name);
    std::vector<std::string> all = texts();
    all.insert(all.end(), ill_formed.begin(), ill_formed.end());
    for (const std::string& text : all) {
      // The mark that stands for a space is a space afterwards; "digit_runs" puts spaces in.
      if (text.find("\u2581") != std::string::npos) continue;
      if (std::string(name) == "digit_runs" && !text.starts_with(' ')) continue;
      if (std::string(name) == "digit_runs" && text.find_first_of("0123456789") != text.npos)
        continue;
      const std::string back = tokenizer.decode(tokenizer.encode(text));
      EXPECT_EQ(back, text) << name;
    }
  }
}

TEST(LongTexts, TakeTimeInProportion) {
  const auto seconds = [](const Tokenizer& tokenizer, const std::string& text) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  for (const char* name : {"gpt2", "llama2", "sp_bpe", "sp_unigram_bytes", "unigram_bytes"}) {
    const Tokenizer tokenizer = tiny(name);
    for (const char* unit : {"a", "ab", "\u00e9", "\xff", " "}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      // Quadratic work would take minutes; this takes some hundredths of a second.
      EXPECT_LT(seconds(tokenizer, text), 10.0) << name << " " << unit;
    }
  }
}

TEST(LongTexts, OfMarksAndJamoTakeTimeInProportion) {
  const Tokenizer tokenizer = tiny("qwen2");
  for (const char* unit : {"\u0301", "a\u0323\u0301", "\u1161", "\u1100\u1161\u11a8", "\u4e00"}) {
    std::string text;
    while (text.size() < 60'000) text += unit;
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(tokenizer.encode_with_offsets(text).back().end, text.size()) << unit;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(took.count(), 20.0) << unit;
  }
}

TEST(NativeBos, IsWhatTheTokenizerPutsInFront) {
  for (const char* name : {"llama2", "mistral", "gemma"}) {
    EXPECT_TRUE(tiny(name).adds_bos()) << name;
    EXPECT_EQ(tiny(name).bos(), 1) << name;
    EXPECT_FALSE(tiny(name).adds_eos()) << name;
  }
  const Tokenizer t5 = tiny("t5");
  EXPECT_FALSE(t5.adds_bos());
  EXPECT_TRUE(t5.adds_eos());
  EXPECT_EQ(t5.encode("a").back(), t5.encode("b a").back()) << "encode itself adds nothing";
}

TEST(NativeBos, StaysTheTemplatesWhenTheConfigOnlyNamesAnother) {
  using nlohmann::json;
  const json file = test::read_json(test::tiny_tokenizers() / "llama2" / "tokenizer.json");
  const auto open = [&](const json& config) {
    return Tokenizer::open(
        test::directory_with({{"tokenizer.json", file}, {"tokenizer_config.json", config}}));
  };
  EXPECT_EQ(open({{"bos_token", "</s>"}}).bos(), 1);
  EXPECT_EQ(open({{"bos_token", "</s>"}, {"add_bos_token", true}}).bos(), 2);
  EXPECT_FALSE(open({{"bos_token", "<s>"}, {"add_bos_token", false}}).adds_bos());
}

}  // namespace
}  // namespace plumb
