// Planted models on disk and in the engine.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "plumb/checkpoint.h"
#include "plumb/error.h"
#include "plumb/model.h"
#include "plumb/plant.h"
#include "plumb/run.h"
#include "plumb/tokenizer.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

TEST(PlantedFiles, ReadBackAsTheyWereMade) {
  PlantOptions options;
  options.route = Route::token;
  options.seed = 4;
  const Planted planted = plant(options);
  const auto directory = scratch_dir() / "model";
  write_planted(planted, directory);
  const Checkpoint checkpoint = Checkpoint::open(directory);
  EXPECT_EQ(checkpoint.config().layers, planted.config.layers);
  EXPECT_EQ(checkpoint.config().rope.theta, planted.config.rope.theta);
  EXPECT_EQ(checkpoint.config().d_head, planted.config.d_head);
  for (const auto& [key, value] : planted.weights) {
    EXPECT_TRUE(at::equal(checkpoint.read(key.first, key.second), value)) << to_string(key.first);
  }
  const at::Tensor ids = plant_tokens(planted, 1, 2, 32);
  const at::Tensor from_disk = run(load(directory), Tokens{ids}).logits;
  EXPECT_TRUE(at::equal(from_disk, run(to_model(planted), Tokens{ids}).logits));
  EXPECT_TRUE(std::filesystem::exists(directory / "planted.json"));
}

TEST(PlantedFiles, TokenizerIsOneTokenForEachByte) {
  for (const Route route : {Route::positional, Route::token}) {
    PlantOptions options;
    options.route = route;
    const auto directory = scratch_dir() / "model";
    write_planted(plant(options), directory);
    const Tokenizer tokenizer = Tokenizer::open(directory);
    EXPECT_EQ(tokenizer.size(), 257);
    EXPECT_EQ(tokenizer.adds_bos(), route == Route::token);
    EXPECT_EQ(tokenizer.bos(), 256);
    std::string text;
    std::vector<std::int64_t> bytes;
    for (const unsigned char byte : std::string("Caf\xc3\xa9 \n\t \xe6\xb0\xb4  it's 1 ~")) {
      text += static_cast<char>(byte);
      bytes.push_back(byte);
    }
    EXPECT_EQ(tokenizer.encode(text), bytes);
    EXPECT_EQ(tokenizer.decode(bytes), text);
    EXPECT_EQ(tokenizer.encode("<|bos|>a"), (std::vector<std::int64_t>{256, 'a'}));
  }
}

TEST(PlantedFiles, APlaceThatCannotBeWrittenIsABadFile) {
  const auto blocked = scratch_dir() / "file";
  std::ofstream(blocked) << "x";
  try {
    write_planted(plant(), blocked / "model");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
  }
}

}  // namespace
}  // namespace plumb::test
