// GGUF's "llama" tokenizers written as tokenizer.json: read back, they give the library's ids.
#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/write_tokenizer.h"
#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using Ids = std::vector<std::int64_t>;

Tokenizer rewritten(const fs::path& gguf) {
  const fs::path directory = test::scratch_dir() / "rewritten";
  fs::create_directories(directory);
  for (const FileToWrite& file : tokenizer_files(gguf, 64).files) {
    std::ofstream(directory / file.name) << file.text;
  }
  return Tokenizer::open(directory);
}

class RewrittenSentencePiece : public testing::TestWithParam<std::string> {};

TEST_P(RewrittenSentencePiece, GivesTheSameTokensAndTexts) {
  const fs::path path = test::tiny_tokenizers() / (GetParam() + ".gguf");
  const Tokenizer original = Tokenizer::open(path);
  const Tokenizer again = rewritten(path);
  const auto texts = test::read_json(test::tiny_tokenizers() / "golden.json").at("texts");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    EXPECT_EQ(again.encode(text), original.encode(text)) << "text " << i;
    EXPECT_EQ(again.decode(again.encode(text)), original.decode(original.encode(text)));
  }
}

INSTANTIATE_TEST_SUITE_P(Gguf, RewrittenSentencePiece, testing::Values("sp_bpe", "sp_bpe_bare"),
                         [](const auto& info) { return info.param; });

TokenizerSpec letters(std::vector<double> scores) {
  TokenizerSpec spec;
  spec.where = "letters";
  spec.model = ModelKind::scored_bpe;
  spec.unknown = "?";
  const std::vector<std::string> tokens = {"?", "a", "b", "ab", "ba", "aba"};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    spec.vocab.emplace_back(tokens[i], static_cast<std::int64_t>(i));
  }
  spec.scores = std::move(scores);
  return spec;
}

TEST(SentencePieceMerges, GoByTheirScores) {
  const Json model = sentencepiece_model_json(letters({0, 0, 0, -2, -1, -3}));
  EXPECT_EQ(model.at("merges"), Json({"b a", "a b", "a ba", "ab a"}));
}

TEST(SentencePieceMerges, OfEqualScoresAreRefused) {
  const TokenizerSpec spec = letters({0, 0, 0, -2, -2, -3});
  try {
    sentencepiece_model_json(spec);
    ADD_FAILURE() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("tokens 3 and 4 have the same score"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace plumb
