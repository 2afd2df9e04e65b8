// Pairs made from templates, read back.
#include "plumb/pair_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/error.h"
#include "plumb/pairs.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Ids = std::vector<std::int64_t>;

// A byte-level tokenizer's letter for a byte, in UTF-8: itself where it can be seen, else the next
// of the letters from U+0100 on.
std::string letter(int byte, int& unseen) {
  const bool seen = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
  const int code = seen ? byte : 256 + unseen++;
  if (code < 128) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// A tokenizer of all 256 bytes (ids 0 to 255), and of these words as tokens from 256 on.
constexpr std::int64_t first_word = 256;
Tokenizer with_words(const std::vector<std::string>& words) {
  nlohmann::json vocab = nlohmann::json::object();
  int unseen = 0;
  for (int byte = 0; byte < 256; ++byte) vocab[letter(byte, unseen)] = byte;
  nlohmann::json file = {
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"added_tokens", nlohmann::json::array()}};
  std::int64_t id = first_word;
  for (const std::string& word : words) {
    file["added_tokens"].push_back({{"id", id++},
                                    {"content", word},
                                    {"special", false},
                                    {"normalized", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"single_word", false}});
  }
  const std::filesystem::path directory = test::scratch_dir();
  std::ofstream(directory / "tokenizer.json") << file;
  return Tokenizer::open(directory);
}

std::vector<PairIds> read_back(const std::vector<std::string>& lines, const Tokenizer* tokenizer) {
  const auto path = test::scratch_dir() / "made.jsonl";
  std::ofstream file(path);
  for (const std::string& line : lines) file << line << "\n";
  file.close();
  return read_pairs(path, tokenizer, {});
}

std::size_t differences(const PairIds& pair) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < pair.clean.size(); ++i) count += pair.clean[i] != pair.corrupt[i];
  return count;
}

TEST(PairTasks, IoiAsksForTheNameThatWasGivenNothing) {
  const std::vector<std::string> names = {" Mary", " John", " Tom", " Anna", " Paul", " Alice"};
  const Tokenizer tokenizer = with_words(names);
  const auto pairs = read_back(
      make_pair_lines(PairTask::ioi, &tokenizer, tokenizer.size(), {.count = 40, .seed = 3}),
      &tokenizer);
  ASSERT_EQ(pairs.size(), 40U);
  for (const PairIds& pair : pairs) {
    EXPECT_EQ(differences(pair), 1U);
    // Each name is a token; the right answer stands once in the clean prompt, the wrong one twice.
    EXPECT_EQ(std::ranges::count(pair.clean, pair.right), 1);
    EXPECT_EQ(std::ranges::count(pair.clean, pair.wrong), 2);
    EXPECT_EQ(std::ranges::count(pair.corrupt, pair.right), 2);
    EXPECT_GE(pair.right, first_word);
  }
}

TEST(PairTasks, GreaterThanKnowsTheLaterYears) {
  std::vector<std::string> words;
  for (int year = 0; year < 100; ++year)
    words.push_back(std::string(year < 10 ? "0" : "") + std::to_string(year));
  const Tokenizer tokenizer = with_words(words);
  const auto pairs = read_back(make_pair_lines(PairTask::greater_than, &tokenizer, tokenizer.size(),
                                               {.count = 20, .seed = 1}),
                               &tokenizer);
  for (const PairIds& pair : pairs) {
    EXPECT_EQ(differences(pair), 1U);
    std::size_t at = 0;
    while (pair.clean[at] == pair.corrupt[at]) ++at;
    const std::int64_t year = pair.clean[at] - first_word;
    EXPECT_EQ(pair.corrupt[at] - first_word, 1);
    EXPECT_EQ(pair.right - first_word, year + 1);
    EXPECT_EQ(static_cast<std::int64_t>(pair.also_right.size()), 98 - year);
    EXPECT_EQ(static_cast<std::int64_t>(pair.also_wrong.size()), year);
    EXPECT_EQ(pair.wrong - first_word, 0);
  }
  // Where each digit is a token, decades are compared.
  const Tokenizer digits = with_words({});
  for (const PairIds& pair :
       read_back(make_pair_lines(PairTask::greater_than, &digits, digits.size(), {.count = 20}),
                 &digits)) {
    EXPECT_EQ(digits.decode({pair.wrong}), "0");
    EXPECT_EQ(pair.also_right.size() + pair.also_wrong.size(), 7U);
  }
}

TEST(PairTasks, InductionChangesWhatFollowedTheFirstTime) {
  const auto lines = make_pair_lines(PairTask::induction, nullptr, 50, {.count = 30, .length = 8});
  for (const PairIds& pair : read_back(lines, nullptr)) {
    EXPECT_EQ(differences(pair), 1U);
    const auto first = std::ranges::find(pair.clean, pair.clean.back());
    EXPECT_EQ(*(first + 1), pair.right);
    const auto in_corrupt = std::ranges::find(pair.corrupt, pair.corrupt.back());
    EXPECT_EQ(*(in_corrupt + 1), pair.wrong);
  }
  EXPECT_EQ(lines, make_pair_lines(PairTask::induction, nullptr, 50, {.count = 30, .length = 8}));
  EXPECT_NE(lines, make_pair_lines(PairTask::induction, nullptr, 50,
                                   {.count = 30, .seed = 1, .length = 8}));
}

TEST(PairTasks, SayWhatTheyCannotDo) {
  const auto refusal = [](PairTask task, const Tokenizer* tokenizer, std::int64_t vocab,
                          const PairTaskOptions& options) {
    try {
      make_pair_lines(task, tokenizer, vocab, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const Tokenizer few = with_words({" Mary", " John"});
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refusal(PairTask::ioi, &few, few.size(), {}), "writes 2 of 64 names as one token");
  has(refusal(PairTask::ioi, nullptr, 50, {}), "has no tokenizer");
  has(refusal(PairTask::induction, nullptr, 5, {.length = 8}), "9 different tokens are needed");
  has(refusal(PairTask::induction, nullptr, 3, {.count = 1000, .length = 2}), "ask for fewer");
  has(refusal(PairTask::induction, nullptr, 50, {.count = 0}), "at least 1 pair");
  EXPECT_THROW(parse_pair_task("docstring"), Error);
  EXPECT_EQ(parse_pair_task("greater-than"), PairTask::greater_than);
}

}  // namespace
}  // namespace plumb
