// Token ids against the reference implementation; make_tokenizer_goldens.py made golden.json.
#include <gtest/gtest.h>

#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

using Ids = std::vector<std::int64_t>;
using nlohmann::json;

const json& golden() {
  static const json all = test::read_json(test::tiny_tokenizers() / "golden.json");
  return all;
}

/// The reference tells offsets apart by characters; `begin` and `end` widened to whole ones.
TokenSpan widened(TokenSpan span, const std::string& text) {
  const auto inside = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
  };
  while (inside(span.begin)) --span.begin;
  while (inside(span.end)) ++span.end;
  return span;
}

/// Where the reference's span of what normalisation rewrote differs by design, plumb's covers it,
/// or lies in it: a token of one byte has that byte where the reference gives it the whole run.
bool one_covers_the_other(const TokenSpan& ours, std::size_t begin, std::size_t end) {
  return (ours.begin <= begin && ours.end >= end) || (ours.begin >= begin && ours.end <= end);
}

/// Whether a tokenizer's normaliser replaces several characters by one or decomposes them.
bool rewrites(const std::string& name) {
  return name == "t5" || name == "xlnet" || name == "unigram_bytes" || name == "qwen2" ||
         name == "neox" || name == "shared/gpt-neox";
}

void expect_spans(const std::vector<TokenSpan>& tokens, const std::vector<std::size_t>& expected,
                  const std::string& text, const std::string& where, bool loose) {
  ASSERT_EQ(2 * tokens.size(), expected.size()) << where;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const TokenSpan ours = widened(tokens[i], text);
    const std::size_t begin = expected[2 * i];
    const std::size_t end = begin + expected[2 * i + 1];
    // What was put in has no place of its own; the reference gives it the next character's.
    const bool inserted = tokens[i].begin == tokens[i].end;
    const bool same = ours.begin == begin && (ours.end == end || inserted);
    ASSERT_TRUE(same || (loose && (inserted || one_covers_the_other(ours, begin, end))))
        << where << ", token " << i << ": bytes " << ours.begin << "-" << ours.end << " instead of "
        << begin << "-" << end;
  }
}

void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  const json& ids = golden().at("ids").at(name);
  ASSERT_EQ(ids.size(), golden().at("texts").size());
  const bool more = golden().at("spans").contains(name);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto text = golden().at("texts")[i].get<std::string>();
    const std::string where = name + ", text " + std::to_string(i);
    const Ids expected = ids[i].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text), expected) << where << ": " << text;
    const std::vector<TokenSpan> tokens = tokenizer.encode_with_offsets(text);
    Ids same;
    for (const TokenSpan& token : tokens) same.push_back(token.id);
    EXPECT_EQ(same, expected) << where << " (with offsets)";
    if (!more || same != expected) continue;
    expect_spans(tokens, golden().at("spans").at(name)[i].get<std::vector<std::size_t>>(), text,
                 where, rewrites(name));
    const json& decoded = golden().at("decoded").at(name)[i];
    const std::string back = decoded.is_null() ? text : decoded.get<std::string>();
    // The reference takes the letters of an added token for bytes where it can.
    if (back.find("\ufffd-tok") == std::string::npos) {
      EXPECT_EQ(tokenizer.decode(expected), back) << where;
    }
  }
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, GivesTheIdsOfTheReference) {
  expect_golden(Tokenizer::open(test::tiny_tokenizers() / GetParam()), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Tiny, TokenizerGolden,
                         testing::Values("gpt2", "prefix_space", "smollm", "digit_runs", "llama3",
                                         "qwen2", "unknown", "unknown_each", "literal", "llama2",
                                         "mistral", "gemma", "t5", "unigram_bytes", "xlnet",
                                         "words", "neox", "splits", "falcon"),
                         [](const auto& each) { return std::string(each.param); });

TEST(TokenizerGguf, GivesTheIdsOfTheReferenceForEveryNamedPreTokenizer) {
  const json file = test::read_json(test::tiny_tokenizers() / "gpt2" / "tokenizer.json");
  int compared = 0;
  for (const auto& [name, ids] : golden().at("ids").items()) {
    if (!name.starts_with("pre/")) continue;
    expect_golden(Tokenizer::open(test::gguf_of(file, name.substr(4)).write()), name);
    ++compared;
  }
  EXPECT_EQ(compared, 12);
}

TEST(TokenizerGguf, GivesTheIdsOfTheTokenizerJsonBehindIt) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"gpt2", "gpt-2"}, {"smollm", "smollm"}, {"llama3", "llama-bpe"}};
  for (const auto& [name, pre] : names) {
    const json file = test::read_json(test::tiny_tokenizers() / name / "tokenizer.json");
    expect_golden(Tokenizer::open(test::gguf_of(file, pre).write()), name);
  }
}

TEST(TokenizerSharedGpt2, GivesTheIdsOfTheReference) {
  const auto path = test::shared_dir() / "models" / "tokenizers" / "gpt2";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "missing " << path;
  const Tokenizer tokenizer = Tokenizer::open(path);
  expect_golden(tokenizer, "shared/gpt2");
  EXPECT_EQ(tokenizer.size(), 50257);
  EXPECT_EQ(tokenizer.bos(), 50256);  // from config.json, for want of a tokenizer_config.json
  EXPECT_FALSE(tokenizer.adds_bos());
}

TEST(TokenizerSharedNeox, GivesTheIdsOfTheReference) {
  const auto path = test::shared_dir() / "models" / "tokenizers" / "gpt-neox";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "missing " << path;
  const Tokenizer tokenizer = Tokenizer::open(path);
  expect_golden(tokenizer, "shared/gpt-neox");
  EXPECT_EQ(tokenizer.size(), 50277);
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_FALSE(tokenizer.adds_bos());
}

TEST(TokenizerSmollm2, GivesTheGoldenIds) {
  const auto golden_path = test::shared_dir() / "models" / "smollm2" / "smollm2_golden.json";
  const auto model = test::model_file("smollm2-135m.gguf");
  for (const auto& path : {golden_path, model}) {
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "missing " << path;
  }
  const Tokenizer tokenizer = Tokenizer::open(model);
  int compared = 0;
  const json golden = test::read_json(golden_path);
  for (const auto& [name, entry] : golden.items()) {
    if (!entry.contains("text") || !entry["text"].is_string()) continue;
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["ids"].get<Ids>()) << name;
    EXPECT_EQ(tokenizer.decode(entry["ids"].get<Ids>()), entry["text"].get<std::string>()) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 8);
}

TEST(TokenizerSmollm2, ReadsItsSpecialTokens) {
  const auto model = test::model_file("smollm2-135m.gguf");
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "missing " << model;
  const Tokenizer tokenizer = Tokenizer::open(model);
  EXPECT_EQ(tokenizer.size(), 49152);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_FALSE(tokenizer.adds_bos());
  EXPECT_TRUE(tokenizer.is_special(16));
  EXPECT_FALSE(tokenizer.is_special(17));
  EXPECT_EQ(tokenizer.show(260), " the");
  EXPECT_EQ(tokenizer.show(1), "<|im_start|>");
}

}  // namespace
}  // namespace plumb
