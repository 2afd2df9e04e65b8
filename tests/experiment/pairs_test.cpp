// Pairs from files, and what is refused.
#include "plumb/pairs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

std::filesystem::path file_with(const std::string& name, const std::string& content) {
  const auto path = test::scratch_dir() / name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string refusal(const std::string& name, const std::string& content) {
  try {
    read_pairs(file_with(name, content), nullptr, {});
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Pairs, AreReadFromJsonLines) {
  const auto pairs =
      read_pairs(file_with("pairs.jsonl",
                           "{\"clean\": [1, 2, 3], \"corrupt\": [1, 4, 3], \"answers\": [7, 8]}\n\n"
                           "{\"clean\": [5, 6], \"corrupt\": [9, 6], \"answers\": [0, 1]}\r\n"),
                 nullptr, {});
  ASSERT_EQ(pairs.size(), 2U);
  EXPECT_EQ(pairs[0].corrupt, (std::vector<std::int64_t>{1, 4, 3}));
  EXPECT_EQ(pairs[1].wrong, 1);
  const Pairs made = make_pairs(pairs);
  EXPECT_EQ(made.length(), 3);
  EXPECT_EQ(made.reads[1].item<std::int64_t>(), 1);
  EXPECT_EQ(made.sha256.size(), 64U);
}

TEST(Pairs, TextsNeedATokenizerAndCsvIsText) {
  EXPECT_NE(refusal("a.jsonl", "{\"clean\": \"x\", \"corrupt\": \"y\", \"answers\": [1, 2]}")
                .find("line 1: holds text, but the model has no tokenizer"),
            std::string::npos);
  EXPECT_NE(refusal("a.csv", "clean,corrupted,correct_idx,incorrect_idx\n\"a, b\",c,1,2\n")
                .find("record 1: holds text"),
            std::string::npos);
}

TEST(Pairs, ErrorsNameTheLine) {
  const auto expect = [](const std::string& line, const std::string& part) {
    const std::string message = refusal("p.jsonl", "\n" + line + "\n");
    EXPECT_NE(message.find("line 2"), std::string::npos) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect("[1]", "expected an object");
  expect("{\"corrupt\": [2]}", "has no \"clean\"");
  expect("{\"clean\": [1], \"answers\": 3}", "list of two");
  expect("{\"clean\": [1], \"corrupt\": [2], \"answers\": [[], 3]}", "answers is empty");
  expect("{\"clean\": [1], \"corrupt\": [2], \"align\": [[1]]}", "align");
  expect("{\"clean\": [1], \"corrupt\": [2], \"answers\": [1]}", "list of two");
  expect("{\"clean\": [-1], \"corrupt\": [2], \"answers\": [1, 2]}", "expected a token id");
  expect("{\"clean\": [], \"corrupt\": [2], \"answers\": [1, 2]}", "clean");
  expect("{\"clean\": [1], \"corrupt\": [2], \"answers\": [1, 2], \"extra\": 1}", "unknown key");
  EXPECT_NE(refusal("p.jsonl", "{\"clean\": [1, 2], \"corrupt\": [2], \"answers\": [1, 2]}")
                .find("pair 1: the clean prompt has 2 tokens and the corrupt one 1"),
            std::string::npos);
  EXPECT_NE(refusal("p.jsonl", "").find("holds no pair"), std::string::npos);
  EXPECT_NE(refusal("p.csv", "clean,other\n").find("has no column corrupted"), std::string::npos);
  EXPECT_NE(refusal("p.csv", "clean,corrupted,correct_idx,incorrect_idx\na,b\n")
                .find("has 2 fields, but the header has 4"),
            std::string::npos);
  EXPECT_THROW(make_pairs({}), Error);
}

}  // namespace
}  // namespace plumb
