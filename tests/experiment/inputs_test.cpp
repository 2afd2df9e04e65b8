#include "plumb/inputs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::scratch_dir;

std::filesystem::path file_with(const std::string& content) {
  const auto path = scratch_dir() / "input";
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

TEST(Inputs, BosStandsBeforeTheContent) {
  const Inputs inputs = make_inputs({{5, 6, 7, 8}, {9, 10, 11}}, 3, 1, "tokens");
  EXPECT_TRUE(
      at::equal(inputs.tokens.ids, at::tensor({1, 5, 6, 7, 1, 9, 10, 11}, at::kLong).view({2, 4})));
  EXPECT_FALSE(inputs.tokens.lengths.defined());
  EXPECT_EQ(inputs.bos, 1);
}

TEST(Inputs, ShorterSequencesArePadded) {
  const Inputs inputs = make_inputs({{5, 6, 7, 8}, {9}}, 3, {}, "tokens");
  EXPECT_TRUE(at::equal(inputs.tokens.lengths, at::tensor({3, 1}, at::kLong)));
  EXPECT_NE(inputs.sha256, make_inputs({{5, 6, 7, 8}, {9, 0, 0}}, 3, {}, "tokens").sha256);
}

TEST(Inputs, HeadCutsBothAxes) {
  const Inputs inputs = make_inputs({{1, 2, 3}, {4, 5}, {6}}, 3, {}, "tokens");
  const Inputs part = head(inputs, 2, 2);
  EXPECT_TRUE(at::equal(part.tokens.ids, at::tensor({1, 2, 4, 5}, at::kLong).view({2, 2})));
  EXPECT_TRUE(at::equal(part.tokens.lengths, at::tensor({2, 2}, at::kLong)));
  EXPECT_EQ(head(inputs, 99, 99).sha256, inputs.sha256);
}

TEST(Inputs, BosIsParsedStrictly) {
  EXPECT_EQ(parse_bos("none").kind, Bos::Kind::none);
  EXPECT_EQ(parse_bos("native").kind, Bos::Kind::native);
  EXPECT_EQ(parse_bos("17").id, 17);
  for (const char* text : {"", "yes", "-1", "1x", "99999999999999999999"})
    EXPECT_THROW(parse_bos(text), Error) << text;
}

TEST(Inputs, RandomIdsAreSeeded) {
  const auto a = random_ids(3, 50, 40, nullptr, 1);
  EXPECT_EQ(a, random_ids(3, 50, 40, nullptr, 1));
  EXPECT_NE(a, random_ids(3, 50, 40, nullptr, 2));
  for (const auto& sequence : a) {
    for (const auto id : sequence) EXPECT_TRUE(id >= 0 && id < 40);
  }
}

TEST(InputFiles, TextsComeLineByLine) {
  const auto texts = read_texts(file_with("one\r\n\n  \ntwo three\nfour"));
  EXPECT_EQ(texts, (std::vector<std::string>{"one", "two three", "four"}));
  EXPECT_THROW(read_texts(file_with("\n \n")), Error);
  EXPECT_THROW(read_texts(scratch_dir() / "absent"), Error);
  EXPECT_THROW(read_texts(scratch_dir()), Error);
}

TEST(InputFiles, TokensAreListsOfIds) {
  EXPECT_EQ(read_token_file(file_with("[[1, 2], [3]]")),
            (std::vector<std::vector<std::int64_t>>{{1, 2}, {3}}));
  for (const char* text : {"", "{}", "[]", "[[]]", "[1]", "[[1.5]]", "[[-1]]", "[[\"a\"]]", "[[1],",
                           "[[99999999999]]", "[[18446744073709551615]]", "[[[1]]]"}) {
    try {
      read_token_file(file_with(text));
      ADD_FAILURE() << text << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file) << text;
    }
  }
}

TEST(BundledTexts, AreSixtyFourDifferentOnes) {
  const auto texts = read_texts(test::source_dir() / "data/inputs/texts.txt");
  EXPECT_EQ(texts.size(), 64U);
  for (const auto& text : texts) EXPECT_GT(text.size(), 500U);
}

}  // namespace
}  // namespace plumb
