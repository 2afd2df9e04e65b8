// Damaged files give an Error or a model, never anything else.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "checkpoint/files.h"
#include "checkpoint/models.h"
#include "plumb/checkpoint.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

/// Whether the checkpoint opened and every weight could be read. Anything but an Error escapes and
/// fails the test.
bool opens_and_reads(const fs::path& path) {
  try {
    const Checkpoint checkpoint = Checkpoint::open(path);
    for (const Weight weight : all_weights()) {
      const int layers = is_per_layer(weight) ? checkpoint.config().layers : 1;
      for (int layer = 0; layer < layers; ++layer) {
        if (checkpoint.has(weight, layer)) checkpoint.read(weight, layer);
      }
    }
    checkpoint.sha256();
    return true;
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind() == ErrorKind::bad_file || error.kind() == ErrorKind::unsupported)
        << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return false;
  }
}

/// The smallest valid GGUF model: its file is a few hundred bytes of header and as many of data.
std::string tiny_gguf() {
  test::GgufBuilder build;
  build.string("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.embedding_length", 2)
      .u32("llama.feed_forward_length", 1)
      .u32("llama.attention.head_count", 1)
      .u32("llama.context_length", 4)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5F)
      .raw("tokenizer.ggml.tokens", 9,
           test::bytes_of(std::uint32_t{8}) + test::bytes_of(std::uint64_t{2}) +
               test::GgufBuilder::text("a") + test::GgufBuilder::text("b"));
  const auto matrix = [&](const char* name, std::uint64_t inputs, std::uint64_t outputs) {
    build.tensor(name, {inputs, outputs}, 0,
                 test::floats(std::vector<float>(inputs * outputs, 0.5F)));
  };
  const auto vector = [&](const char* name) { build.tensor(name, {2}, 0, test::floats({1, 1})); };
  matrix("token_embd.weight", 2, 2);
  vector("output_norm.weight");
  vector("blk.0.attn_norm.weight");
  vector("blk.0.ffn_norm.weight");
  matrix("blk.0.attn_q.weight", 2, 2);
  matrix("blk.0.attn_k.weight", 2, 2);
  matrix("blk.0.attn_v.weight", 2, 2);
  matrix("blk.0.attn_output.weight", 2, 2);
  matrix("blk.0.ffn_gate.weight", 2, 1);
  matrix("blk.0.ffn_up.weight", 2, 1);
  matrix("blk.0.ffn_down.weight", 1, 2);
  return build.bytes();
}

TEST(Damage, TruncationOfAGgufFileAnywhereIsAnError) {
  const std::string bytes = tiny_gguf();
  const fs::path path = test::scratch_dir() / "model.gguf";
  test::write_bytes(path, bytes);
  ASSERT_TRUE(opens_and_reads(path));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    test::write_bytes(path, bytes.substr(0, length));
    ASSERT_FALSE(opens_and_reads(path)) << length << " of " << bytes.size();
  }
}

TEST(Damage, TruncationOfASafetensorsFileAnywhereIsAnError) {
  const fs::path model = test::small_model("qwen3");
  const std::string bytes = test::read_bytes(model / "model.safetensors");
  ASSERT_TRUE(opens_and_reads(model));
  for (std::size_t length = 0; length < bytes.size(); length += length < 4000 ? 1 : 97) {
    test::write_bytes(model / "model.safetensors", bytes.substr(0, length));
    ASSERT_FALSE(opens_and_reads(model)) << length << " of " << bytes.size();
  }
}

TEST(Damage, TruncationOfAConfigAnywhereIsAnError) {
  const fs::path model = test::small_model("qwen2");
  std::string bytes = test::read_bytes(model / "config.json");
  bytes.erase(bytes.find_last_of('}') + 1);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    test::write_bytes(model / "config.json", bytes.substr(0, length));
    ASSERT_FALSE(opens_and_reads(model)) << length;
  }
}

/// Replaces one byte at a time. Returns how many of the damaged files still were models.
int corrupt(const fs::path& file, const fs::path& model, std::size_t first, std::size_t last,
            int rounds, std::uint64_t seed) {
  const std::string sound = test::read_bytes(file);
  std::mt19937_64 generator(seed);
  std::uniform_int_distribution<std::size_t> place(first, std::min(last, sound.size()) - 1);
  std::uniform_int_distribution<int> value(0, 255);
  int opened = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string damaged = sound;
    damaged[place(generator)] = static_cast<char>(value(generator));
    test::write_bytes(file, damaged);
    opened += opens_and_reads(model) ? 1 : 0;
  }
  test::write_bytes(file, sound);
  EXPECT_TRUE(opens_and_reads(model));
  return opened;
}

TEST(Damage, AWrongByteInAGgufFileIsHarmless) {
  const fs::path path = test::scratch_dir() / "model.gguf";
  test::write_bytes(path, tiny_gguf());
  constexpr int rounds = 6000;
  const int opened = corrupt(path, path, 0, SIZE_MAX, rounds, 11);
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, rounds);
}

TEST(Damage, AWrongByteInAQuantisedGgufFileIsHarmless) {
  const fs::path path = test::scratch_dir() / "model.gguf";
  test::write_bytes(path, test::read_bytes(test::source_dir() / "tests/golden/gguf/llama.gguf"));
  EXPECT_GT(corrupt(path, path, 0, 2500, 3000, 12), 0);
}

TEST(Damage, AWrongByteInASafetensorsHeaderIsHarmless) {
  const fs::path model = test::small_model("gpt2");
  EXPECT_GT(corrupt(model / "model.safetensors", model, 0, 3500, 3000, 13), 0);
}

TEST(Damage, AWrongByteInAConfigIsHarmless) {
  for (const char* family : {"llama", "gpt2", "smollm3"}) {
    const fs::path model = test::small_model(family);
    EXPECT_GT(corrupt(model / "config.json", model, 0, SIZE_MAX, 1500, 14), 0);
  }
}

}  // namespace
}  // namespace plumb
