#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/config_fields.h"
#include "checkpoint/files.h"
#include "checkpoint/models.h"
#include "plumb/checkpoint_write.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::expect_error;
using test::random_weights;
using test::small_config;

constexpr const char* families[] = {"llama",     "smollm3", "qwen2",     "qwen3", "mistral", "gpt2",
                                    "qwen3_moe", "mixtral", "qwen2_moe", "olmoe", "gpt_oss"};

void expect_same(const Checkpoint& read, const std::map<std::string, at::Tensor>& weights,
                 at::ScalarType dtype) {
  std::int64_t parameters = 0;
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? read.config().layers : 1); ++layer) {
      const auto found = weights.find(weight_name(weight, layer));
      ASSERT_EQ(read.has(weight, layer), found != weights.end()) << weight_name(weight, layer);
      if (found == weights.end()) continue;
      const at::Tensor values = read.read(weight, layer, dtype);
      EXPECT_TRUE(values.is_contiguous());
      EXPECT_TRUE(at::equal(values, found->second.to(dtype))) << found->first;
      parameters += values.numel();
    }
  }
  EXPECT_EQ(read.parameters(), parameters);
}

TEST(WriteCheckpoint, ReadsBackAsWrittenForEveryFamily) {
  for (const char* family : families) {
    const ModelConfig config = small_config(family);
    const auto weights = random_weights(config, 7);
    const fs::path directory = test::scratch_dir() / "model";
    write_checkpoint(directory, config, weights);
    const Checkpoint read = Checkpoint::open(directory);
    EXPECT_EQ(first_difference(config, read.config()), "") << family;
    EXPECT_EQ(read.format(), "safetensors");
    expect_same(read, weights, at::kFloat);
    expect_same(read, weights, at::kDouble);
  }
}

TEST(WriteCheckpoint, KeepsEveryFloatingType) {
  for (const at::ScalarType dtype : {at::kDouble, at::kHalf, at::kBFloat16}) {
    const ModelConfig config = small_config("gpt2");
    const auto weights = random_weights(config, 8, dtype);
    const fs::path directory = test::scratch_dir() / "model";
    write_checkpoint(directory, config, weights);
    expect_same(Checkpoint::open(directory), weights, at::kDouble);
  }
}

TEST(WriteCheckpoint, KeepsEveryRopeScaling) {
  for (const RopeScaling scaling : {RopeScaling::none, RopeScaling::linear, RopeScaling::dynamic,
                                    RopeScaling::llama3, RopeScaling::yarn}) {
    ModelConfig config = small_config("llama");
    config.rope.theta = 123.0;
    config.rope.scaling = scaling;
    config.rope.factor = 3;
    config.rope.original_context = scaling == RopeScaling::dynamic ? config.context : 8;
    config.rope.attention_factor = 1.1;
    config.rope.truncate = false;
    const fs::path directory = test::scratch_dir() / "model";
    write_checkpoint(directory, config, random_weights(config, 9));
    EXPECT_EQ(first_difference(config, Checkpoint::open(directory).config()), "");
  }
}

TEST(WriteCheckpoint, TakesViewsThatAreNotContiguous) {
  const ModelConfig config = small_config("llama");
  auto weights = random_weights(config, 10);
  weights["L0.up"] = weights["L0.up"].t().contiguous().t();
  const fs::path directory = test::scratch_dir() / "model";
  write_checkpoint(directory, config, weights);
  expect_same(Checkpoint::open(directory), weights, at::kFloat);
}

TEST(WriteCheckpoint, RefusesConfigsThatTheFamilyCannotExpress) {
  const auto refuses = [](const ModelConfig& config, const std::string& part) {
    const fs::path directory = test::scratch_dir() / "model";
    expect_error([&] { write_checkpoint(directory, config, random_weights(config, 1)); },
                 ErrorKind::bad_argument, {part});
    EXPECT_FALSE(fs::exists(directory));
  };
  ModelConfig config = small_config("llama");
  config.rope_layers = {1, 0};
  refuses(config, "rope_layers");
  config = small_config("llama");
  config.out_bias = false;
  refuses(config, "out_bias");
  config = small_config("llama");
  config.windows = {4, 4};
  refuses(config, "windows");
  config = small_config("mistral");
  config.windows = {4, 5};
  refuses(config, "windows");
  config = small_config("qwen2");
  config.qk_norm = QkNorm::head;
  refuses(config, "qk_norm");
  config = small_config("gpt2");
  config.gated_mlp = true;
  refuses(config, "gated_mlp");
  config = small_config("llama");
  config.family = "bloom";
  refuses(config, "\"bloom\"");
}

TEST(WriteCheckpoint, RefusesTensorsThatDoNotFit) {
  const ModelConfig config = small_config("llama");
  const fs::path directory = test::scratch_dir() / "model";
  const auto refuses = [&](const std::map<std::string, at::Tensor>& weights,
                           const std::vector<std::string>& parts) {
    expect_error([&] { write_checkpoint(directory, config, weights); }, ErrorKind::bad_argument,
                 parts);
    EXPECT_FALSE(fs::exists(directory));
  };
  auto weights = random_weights(config, 1);
  weights.erase("L1.v");
  refuses(weights, {"L1.v", "missing"});
  weights = random_weights(config, 1);
  weights["L2.v"] = weights["L1.v"];
  refuses(weights, {"L2.v", "no place"});
  weights = random_weights(config, 1);
  weights["L0.gate"] = weights["L0.gate"].t();
  refuses(weights, {"L0.gate", "[16, 24]", "[24, 16]"});
  weights = random_weights(config, 1);
  weights["L0.gate"] = weights["L0.gate"].to(at::kInt);
  refuses(weights, {"L0.gate", "Int"});
  weights = random_weights(config, 1);
  weights["embed"][3][2] = std::numeric_limits<float>::quiet_NaN();
  refuses(weights, {"embed", "NaN"});
  weights = random_weights(config, 1);
  weights["embed"] = at::Tensor();
  refuses(weights, {"embed", "undefined"});
}

TEST(WriteCheckpoint, ReplacesAModelAndLeavesNothingBeside) {
  const fs::path directory = test::small_model("llama");
  const ModelConfig config = small_config("gpt2");
  const auto weights = random_weights(config, 3);
  write_checkpoint(directory, config, weights);
  expect_same(Checkpoint::open(directory), weights, at::kFloat);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{"config.json", "model.safetensors"}));
}

/// A limit on file sizes makes write() fail part of the way, as a full disk does.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit now = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~SmallFiles() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;

 private:
  rlimit before_ = {};
  void (*handler_)(int) = nullptr;
};

TEST(WriteCheckpoint, AFailedWriteLeavesTheOldModel) {
  const fs::path directory = test::small_model("llama");
  const std::string before = Checkpoint::open(directory).sha256();
  const ModelConfig config = small_config("llama");
  const auto weights = random_weights(config, 99);
  {
    const SmallFiles limit(4096);
    expect_error([&] { write_checkpoint(directory, config, weights); }, ErrorKind::bad_file,
                 {"model.safetensors", "written"});
  }
  EXPECT_EQ(Checkpoint::open(directory).sha256(), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory), fs::directory_iterator()), 2);
}

TEST(WriteCheckpoint, SaysWhyAPlaceIsNotWritable) {
  const fs::path file = test::scratch_dir() / "file";
  test::write_bytes(file, "x");
  const ModelConfig config = small_config("llama");
  expect_error([&] { write_checkpoint(file / "model", config, random_weights(config, 1)); },
               ErrorKind::bad_file, {file.string()});
}

}  // namespace
}  // namespace plumb
