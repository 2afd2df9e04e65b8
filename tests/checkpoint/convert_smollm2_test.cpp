// SmolLM2 as a GGUF file and as its conversion.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "checkpoint/config_fields.h"
#include "plumb/checkpoint_write.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "plumb/tokenizer.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

// The real model through both readers: weights, logits and token ids.
TEST(ConvertSmolLM2, GivesTheSameBitsThroughBothReaders) {
  const fs::path file = test::model_file("smollm2-135m.gguf");
  if (!fs::exists(file)) GTEST_SKIP() << "needs data/models/get smollm2-135m";
  const Checkpoint from = Checkpoint::open(file);
  const fs::path out = test::scratch_dir() / "out";
  const Conversion result = convert_checkpoint(from, out);
  EXPECT_EQ(result.rounded, 0);
  EXPECT_EQ(result.tokenizer_problem, "");
  const Checkpoint to = Checkpoint::open(out);
  EXPECT_EQ(first_difference(from.config(), to.config()), "");  // convert compared the weights

  const Tokenizer gguf = Tokenizer::open(file);
  const Tokenizer json = Tokenizer::open(out);
  EXPECT_EQ(gguf.bos(), json.bos());
  EXPECT_EQ(gguf.eos(), json.eos());
  EXPECT_EQ(gguf.adds_bos(), json.adds_bos());
  EXPECT_EQ(gguf.size(), json.size());
  std::ifstream texts(test::source_dir() / "data/inputs/texts.txt");
  std::vector<std::vector<std::int64_t>> sequences;
  for (std::string line; std::getline(texts, line);) {
    if (line.empty()) continue;
    sequences.push_back(gguf.encode(line));
    EXPECT_EQ(json.encode(line), sequences.back());
  }
  for (auto& sequence : sequences) sequence.resize(std::min<std::size_t>(sequence.size(), 24));
  sequences.resize(4);
  const Tokens tokens = make_tokens(sequences);
  EXPECT_TRUE(at::equal(run(Model(from), tokens).logits, run(Model(to), tokens).logits));
}

}  // namespace
}  // namespace plumb
