// Splitting, and what of Oniguruma's syntax is carried over.
#include "checkpoint/pretokenizer.h"

#include <gtest/gtest.h>

#include "checkpoint/split_pattern.h"
#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces_of(const PreTokenizer& pretokenizer, std::string_view text) {
  Pieces out;
  pretokenizer.split({.bytes = text},
                     [&](const AlignedView& piece) { out.emplace_back(piece.bytes); });
  return out;
}

PreTokenizer splitter(std::string_view pattern) {
  PreTokenizer out;
  out.add_split(pattern, "test");
  return out;
}

TEST(PreTokenizer, SplitsAsGpt2Does) {
  EXPECT_EQ(pieces_of(splitter(gpt2_split_pattern), "I'm  here, 12 \n"),
            (Pieces{"I", "'m", " ", " here", ",", " 12", " \n"}));
}

TEST(PreTokenizer, MakesGapsPiecesToo) {
  EXPECT_EQ(pieces_of(splitter("b+"), "abbcbd"), (Pieces{"a", "bb", "c", "b", "d"}));
}

TEST(PreTokenizer, IgnoresEmptyMatches) {
  EXPECT_EQ(pieces_of(splitter("b*"), "abba"), (Pieces{"a", "bb", "a"}));
}

TEST(PreTokenizer, AppliesStepsInOrder) {
  PreTokenizer both;
  both.add_split(R"(\p{N})", "test");
  both.add_space_prefix();
  both.add_split("[a-c]", "test");
  EXPECT_EQ(pieces_of(both, "ax12 y"), (Pieces{" ", "a", "x", " 1", " 2", " y"}));
}

TEST(PreTokenizer, HandlesLongRunsInLinearSpace) {
  const std::string letters(1 << 20, 'a');
  EXPECT_EQ(pieces_of(splitter(gpt2_split_pattern), letters), (Pieces{letters}));
  const std::string spaces(1 << 20, ' ');
  EXPECT_EQ(pieces_of(splitter(gpt2_split_pattern), spaces + "x"),
            (Pieces{spaces.substr(1), " x"}));
}

TEST(PreTokenizer, SaysWhenAPatternTakesTooLong) {
  const PreTokenizer slow = splitter("(?:a+)+[bc]");
  try {
    pieces_of(slow, std::string(64, 'a'));
    FAIL() << "matched in time";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::too_large);
    EXPECT_NE(std::string(error.what()).find("64 bytes"), std::string::npos) << error.what();
  }
}

TEST(SplitPattern, SpellsOutWhiteSpaceAsOnigurumaHasIt) {
  // U+0085 and U+3000 are white space, U+180E and U+200B are not.
  EXPECT_EQ(pieces_of(splitter(R"(\s+)"), "a\u0085\u3000b\u180e\u200bc"),
            (Pieces{"a", "\u0085\u3000", "b\u180e\u200bc"}));
  EXPECT_EQ(pieces_of(splitter(R"(\S+)"), "a\u180e \u00a0b"), (Pieces{"a\u180e", " \u00a0", "b"}));
  EXPECT_EQ(pieces_of(splitter(R"([^\sx]+)"), "ab x\u2028c"), (Pieces{"ab", " x\u2028", "c"}));
}

TEST(SplitPattern, AcceptsThePatternsInUse) {
  const std::vector<std::string> patterns = {
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)",
      "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)",
      R"(\s?[A-Za-z\u00b5\u00c0-\u00d6]+)",
  };
  for (const std::string& pattern : patterns) EXPECT_NO_THROW(splitter(pattern)) << pattern;
}

TEST(SplitPattern, RefusesWhatMeansSomethingElseInPcre2) {
  const std::vector<std::pair<std::string, std::string>> patterns = {
      {R"([\p{L}&&[a-z]])", "&&"},
      {R"([^(\s|[.,])]+)", "[ inside"},
      {R"(\h+)", R"(\h)"},
      {R"(\w+)", R"(\w)"},
      {R"(a\b)", R"(\b)"},
      {R"(\p{N}{1,3}+)", "}+"},
      {R"(\p{Han}+)", R"(\p{Han})"},
      {R"(\p{^L}+)", R"(\p{^L})"},
      {R"(a{,3})", "{,"},
      {R"((?s:a))", "(?s"},
      {R"((*UTF)a)", "(*U"},
      {R"([\S])", R"(\S)"},
      {R"((?R))", "(?R"},
      {R"(\Ka)", R"(\K)"},
      {R"(\u12)", R"(\u)"},
      {"a\\", R"("\")"},
      {R"(\pL)", R"(\p)"},
  };
  for (const auto& [pattern, named] : patterns) {
    try {
      translate_split_pattern(pattern, "tokenizer.json");
      ADD_FAILURE() << pattern << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      const std::string message = error.what();
      EXPECT_EQ(message.find("tokenizer.json: "), 0U) << message;
      EXPECT_NE(message.find(" uses "), std::string::npos) << message;
      EXPECT_NE(message.find(named), std::string::npos) << message;
    }
  }
}

TEST(SplitPattern, NamesAPatternThatDoesNotCompile) {
  for (const char* pattern : {"(a", "a)", "[a", "*", "a{3,1}", "(?<=a+)b", "\xff"}) {
    try {
      splitter(pattern);
      ADD_FAILURE() << pattern << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
    }
  }
}

TEST(Utf8, AcceptsExactlyTheWellFormed) {
  EXPECT_EQ(code_point("\xf4\x8f\xbf\xbf", 0).value, 0x10FFFFU);
  EXPECT_EQ(code_point("\xef\xbf\xbf", 0).value, 0xFFFFU);
  for (const char* bytes :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xc3(", "\xff"}) {
    EXPECT_EQ(code_point(bytes, 0).bytes, 0U);
  }
}

TEST(Utf8, CutsIllFormedBytesOneByOne) {
  std::vector<std::pair<std::string, bool>> parts;
  for_each_utf8_stretch("ab\xe2\x82z\xff", [&](std::string_view part, bool well_formed) {
    parts.emplace_back(part, well_formed);
  });
  const std::vector<std::pair<std::string, bool>> expected = {
      {"ab", true}, {"\xe2", false}, {"\x82", false}, {"z", true}, {"\xff", false}};
  EXPECT_EQ(parts, expected);
}

}  // namespace
}  // namespace plumb
