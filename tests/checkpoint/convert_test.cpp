#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "checkpoint/config_fields.h"
#include "checkpoint/files.h"
#include "checkpoint/models.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::expect_error;
using test::random_weights;
using test::small_config;

constexpr const char* families[] = {"llama",   "smollm3", "qwen2",   "qwen3",
                                    "mistral", "gpt2",    "mixtral", "gpt_oss"};

fs::path written(const std::string& family, at::ScalarType dtype = at::kFloat) {
  const fs::path directory = test::scratch_dir() / "model";
  write_checkpoint(directory, small_config(family), random_weights(small_config(family), 3, dtype));
  return directory;
}

void expect_same_weights(const Checkpoint& a, const Checkpoint& b, at::ScalarType dtype) {
  EXPECT_EQ(first_difference(a.config(), b.config()), "");
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? a.config().layers : 1); ++layer) {
      if (!a.has(weight, layer)) continue;
      EXPECT_TRUE(at::equal(a.read(weight, layer, dtype), b.read(weight, layer, dtype)))
          << weight_name(weight, layer);
    }
  }
}

TEST(Convert, KeepsEveryWeightOfEveryFamily) {
  for (const char* family : families) {
    const Checkpoint from = Checkpoint::open(written(family));
    const fs::path out = test::scratch_dir() / "out";
    const Conversion result = convert_checkpoint(from, out);
    EXPECT_EQ(result.dtype, "F32");
    EXPECT_EQ(result.rounded, 0);
    EXPECT_EQ(result.weight_bytes, 4 * from.parameters());
    const Checkpoint to = Checkpoint::open(out);
    EXPECT_EQ(to.config().family, family);
    expect_same_weights(from, to, at::kFloat);
  }
}

TEST(Convert, TakesTheNarrowestTypeThatIsExact) {
  for (const auto& [dtype, name] : {std::pair(at::kHalf, "F16"), std::pair(at::kBFloat16, "BF16"),
                                    std::pair(at::kDouble, "F64")}) {
    const Checkpoint from = Checkpoint::open(written("gpt2", dtype));
    const fs::path out = test::scratch_dir() / "out";
    const Conversion result = convert_checkpoint(from, out);
    EXPECT_EQ(result.dtype, name);
    EXPECT_EQ(result.rounded, 0);
    expect_same_weights(from, Checkpoint::open(out), at::kDouble);
  }
}

TEST(Convert, CountsWhatANarrowerTypeRounds) {
  const Checkpoint from = Checkpoint::open(written("llama"));
  const fs::path out = test::scratch_dir() / "out";
  const Conversion result = convert_checkpoint(from, out, {.dtype = at::kBFloat16});
  EXPECT_EQ(result.dtype, "BF16");
  EXPECT_GT(result.rounded, from.parameters() / 2);
  const at::Tensor expected = from.read(Weight::q, 1).to(at::kBFloat16).to(at::kFloat);
  EXPECT_TRUE(at::equal(Checkpoint::open(out).read(Weight::q, 1), expected));
}

TEST(Convert, RefusesWeightsBeyondTheRangeOfTheType) {
  const ModelConfig config = small_config("llama");
  auto weights = random_weights(config, 3);
  weights["L1.up"][0][0] = 1e6;
  const fs::path directory = test::scratch_dir() / "model";
  write_checkpoint(directory, config, weights);
  const fs::path out = test::scratch_dir() / "out";
  expect_error([&] { convert_checkpoint(Checkpoint::open(directory), out, {.dtype = at::kHalf}); },
               ErrorKind::bad_argument, {"L1.up", "F16", "--dtype"});
  EXPECT_TRUE(fs::is_empty(out));
}

TEST(Convert, CutsLargeModelsIntoShards) {
  const Checkpoint from = Checkpoint::open(written("llama"));
  const fs::path out = test::scratch_dir() / "out";
  const Conversion result = convert_checkpoint(from, out, {.shard_bytes = 4000});
  EXPECT_FALSE(fs::exists(out / "model.safetensors"));
  EXPECT_TRUE(fs::exists(out / "model.safetensors.index.json"));
  EXPECT_GT(result.files.size(), 4U);
  for (const std::string& name : result.files) EXPECT_TRUE(fs::exists(out / name)) << name;
  expect_same_weights(from, Checkpoint::open(out), at::kFloat);
}

TEST(Convert, DoesNotWriteOverAModel) {
  const fs::path directory = written("llama");
  const auto before = test::read_bytes(directory / "model.safetensors");
  expect_error([&] { convert_checkpoint(Checkpoint::open(directory), directory); },
               ErrorKind::bad_argument, {"already", "directory without a model"});
  EXPECT_EQ(test::read_bytes(directory / "model.safetensors"), before);
}

TEST(Convert, LeavesNothingWhenTheDiskIsFull) {
  const Checkpoint from = Checkpoint::open(written("llama"));
  const fs::path out = test::scratch_dir() / "out";
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {2048, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(convert_checkpoint(from, out), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(fs::is_empty(out));
}

TEST(Convert, CopiesTheTokenizerOfADirectory) {
  const fs::path directory = written("llama");
  fs::copy(test::source_dir() / "tests/data/tokenizers/smollm/tokenizer.json", directory);
  const fs::path out = test::scratch_dir() / "out";
  EXPECT_EQ(convert_checkpoint(Checkpoint::open(directory), out).tokenizer_problem, "");
  EXPECT_EQ(test::read_bytes(out / "tokenizer.json"),
            test::read_bytes(directory / "tokenizer.json"));
}

TEST(Convert, SaysWhyThereIsNoTokenizer) {
  const fs::path out = test::scratch_dir() / "out";
  const Conversion result = convert_checkpoint(Checkpoint::open(written("gpt2")), out);
  EXPECT_NE(result.tokenizer_problem.find("has no tokenizer"), std::string::npos);
  EXPECT_FALSE(fs::exists(out / "tokenizer.json"));
}

}  // namespace
}  // namespace plumb
