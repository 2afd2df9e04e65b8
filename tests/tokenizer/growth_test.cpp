// Steps that a file chains may each multiply a text; what comes of it is bounded.
#include <gtest/gtest.h>

#include "tokenizer/support.h"

namespace plumb {
namespace {

using nlohmann::json;

/// A Unigram tokenizer that knows "a", and writes everything else as one unknown token.
json unigram() {
  json vocab = json::array({json::array({"<unk>", 0.0}), json::array({"a", -1.0})});
  return {{"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}}}};
}

json steps(const char* members, const std::vector<json>& all) {
  return {{"type", "Sequence"}, {members, all}};
}

json replace(const char* pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
}

Tokenizer open(const json& file) {
  return Tokenizer::open(test::directory_with({{"tokenizer.json", file}}));
}

void expect_too_large(const json& file, const std::string& text) {
  const Tokenizer tokenizer = open(file);
  for (const bool tracked : {false, true}) {
    try {
      tracked ? void(tokenizer.encode_with_offsets(text)) : void(tokenizer.encode(text));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::too_large) << error.what();
      const std::string named = "a text of " + std::to_string(text.size());
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  }
}

TEST(TokenizerGrowth, NormalizersThatMultiplyAreStopped) {
  json file = unigram();
  file["normalizer"] = steps("normalizers", std::vector<json>(40, replace("a", "aa")));
  expect_too_large(file, "ba");
  file["normalizer"] = replace(" ", std::string(100'000, 'a'));
  expect_too_large(file, "b b");
}

TEST(TokenizerGrowth, PrefixesOfPrefixesAreStopped) {
  json file = unigram();
  const json prefix = {{"type", "Metaspace"},
                       {"replacement", std::string(90, 'a')},
                       {"prepend_scheme", "always"},
                       {"split", false}};
  const json cut = {{"type", "Split"}, {"pattern", {{"Regex", "."}}}, {"behavior", "Isolated"}};
  std::vector<json> all;
  for (int i = 0; i < 15; ++i) all.insert(all.end(), {prefix, cut});
  file["pre_tokenizer"] = steps("pretokenizers", all);
  expect_too_large(file, "b");
}

TEST(TokenizerGrowth, DecodersThatMultiplyAreRefused) {
  json file = unigram();
  file["decoder"] = steps("decoders", std::vector<json>(40, replace("a", "aa")));
  const test::Refusal refusal = test::refusal_of(test::directory_with({{"tokenizer.json", file}}));
  EXPECT_EQ(refusal.kind, ErrorKind::unsupported) << refusal.message;
  EXPECT_NE(refusal.message.find("\"a\""), std::string::npos) << refusal.message;
}

TEST(TokenizerGrowth, AMetaspaceOfNothingIsRefused) {
  for (const char* step : {"pre_tokenizer", "decoder"}) {
    json file = unigram();
    file[step] = {{"type", "Metaspace"}, {"replacement", ""}};
    const test::Refusal refusal =
        test::refusal_of(test::directory_with({{"tokenizer.json", file}}));
    EXPECT_EQ(refusal.kind, ErrorKind::bad_file) << refusal.message;
    EXPECT_NE(refusal.message.find("\"replacement\""), std::string::npos) << refusal.message;
  }
}

TEST(TokenizerGrowth, TheLongestNormalFormIsNotTooLong) {
  json file = unigram();
  file["normalizer"] = {{"type", "NFKD"}};
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "\ufdfa";  // eighteen characters when taken apart
  EXPECT_EQ(open(file).encode(text).size(), 1U);
}

}  // namespace
}  // namespace plumb
