// Mixtures of experts in GGUF files: where their weights lie, and what is refused.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/files.h"
#include "checkpoint/tiny_gguf.h"
#include "plumb/checkpoint.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::expect_error;
using test::TinyLlama;

constexpr std::int64_t experts = 3;
constexpr std::int64_t width = 4;  // of the stream
constexpr std::int64_t neurons = 2;

/// Every number of expert e is e + 1.
std::string numbered(std::int64_t first, std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t e = first; e < first + count; ++e) {
    values.insert(values.end(), static_cast<std::size_t>(neurons * width),
                  static_cast<float>(e + 1));
  }
  return test::floats(values);
}

std::string ones(std::int64_t count) {
  return test::floats(std::vector<float>(static_cast<std::size_t>(count), 1.0F));
}

/// A tiny Llama with three experts in its only layer, in one tensor each or one for each expert.
TinyLlama mixture(const std::string& architecture = "llama", bool split = false) {
  TinyLlama model(architecture, 1, false);
  model.build.u32(model.key("expert_count"), experts).u32(model.key("expert_used_count"), 2);
  model.build.tensor("blk.0.ffn_gate_inp.weight", {width, experts}, 0, ones(width * experts));
  for (const std::string part : {"gate", "up", "down"}) {
    const bool down = part == "down";
    const std::vector<std::uint64_t> matrix = down ? std::vector<std::uint64_t>{neurons, width}
                                                   : std::vector<std::uint64_t>{width, neurons};
    if (split) {
      for (std::int64_t e = 0; e < experts; ++e) {
        model.build.tensor("blk.0.ffn_" + part + "." + std::to_string(e) + ".weight", matrix, 0,
                           numbered(e, 1));
      }
      continue;
    }
    std::vector<std::uint64_t> merged = matrix;
    merged.push_back(experts);
    model.build.tensor("blk.0.ffn_" + part + "_exps.weight", merged, 0, numbered(0, experts));
  }
  return model;
}

TEST(GgufExperts, AreReadOneByOneFromEitherForm) {
  for (const bool split : {false, true}) {
    const Checkpoint checkpoint = Checkpoint::open(mixture("llama", split).write());
    const ModelConfig& config = checkpoint.config();
    EXPECT_EQ(config.family, "mixtral");
    EXPECT_EQ(config.experts.count, experts);
    EXPECT_EQ(config.experts.per_token, 2);
    EXPECT_EQ(config.experts.width, neurons);
    EXPECT_TRUE(config.experts.normalise);
    for (const Weight weight : {Weight::expert_gate, Weight::expert_up, Weight::expert_down}) {
      const at::Tensor whole = checkpoint.read(weight);
      for (int e = 0; e < experts; ++e) {
        const at::Tensor one = checkpoint.read_expert(weight, 0, e);
        EXPECT_TRUE(at::equal(one, whole[e]));
        EXPECT_TRUE(at::equal(one, at::full_like(one, e + 1.0)));
      }
    }
  }
}

TEST(GgufExperts, TellHowTheyAreWeighed) {
  const auto normalises = [](const std::string& architecture, int said) {
    TinyLlama model = mixture(architecture);
    if (said >= 0) {
      model.build.raw(model.key("expert_weights_norm"), 7, std::string(1, static_cast<char>(said)));
    }
    return Checkpoint::open(model.write()).config().experts.normalise;
  };
  EXPECT_TRUE(normalises("llama", -1));
  EXPECT_TRUE(normalises("qwen3moe", -1));
  EXPECT_FALSE(normalises("qwen2moe", -1));
  EXPECT_FALSE(normalises("qwen3moe", 0));
  EXPECT_TRUE(normalises("qwen2moe", 1));
}

TEST(GgufExperts, AShareExpertsGateMayBeAVector) {
  for (const bool flat : {true, false}) {
    TinyLlama model = mixture("qwen2moe");
    model.build.u32("qwen2moe.expert_shared_feed_forward_length", neurons);
    using Shape = std::vector<std::uint64_t>;
    model.build.tensor("blk.0.ffn_gate_inp_shexp.weight", flat ? Shape{width} : Shape{width, 1}, 0,
                       test::floats({1, 2, 3, 4}));
    model.build.tensor("blk.0.ffn_gate_shexp.weight", {width, neurons}, 0, numbered(0, 1));
    model.build.tensor("blk.0.ffn_up_shexp.weight", {width, neurons}, 0, numbered(0, 1));
    model.build.tensor("blk.0.ffn_down_shexp.weight", {neurons, width}, 0, numbered(0, 1));
    const Checkpoint checkpoint = Checkpoint::open(model.write());
    EXPECT_EQ(checkpoint.config().family, "qwen2_moe");
    EXPECT_EQ(checkpoint.config().experts.shared_width, neurons);
    EXPECT_TRUE(at::equal(checkpoint.read(Weight::shared_router),
                          at::tensor({1.F, 2.F, 3.F, 4.F}).view({1, 4})))
        << flat;
  }
}

TEST(GgufExperts, GptOssHasItsConstantsAndNames) {
  const fs::path path = test::source_dir() / "tests/golden/gguf/models/gpt_oss_yarn.gguf";
  const ModelConfig config = Checkpoint::open(path).config();
  EXPECT_EQ(config.family, "gpt_oss");
  EXPECT_TRUE(config.sink_logits && config.experts.biases && config.experts.router_bias);
  EXPECT_EQ(config.experts.limit, 7.0);
  EXPECT_EQ(config.experts.alpha, 1.702);
  EXPECT_FALSE(config.rope.truncate);
  EXPECT_EQ(config.windows, (std::vector<int>{4, 0, 4}));
}

TEST(GgufExperts, AreRefusedWhereTheyMakeNoSense) {
  const auto refuses = [](const TinyLlama& model, ErrorKind kind,
                          const std::vector<std::string>& parts) {
    const fs::path path = model.write();
    expect_error([&] { Checkpoint::open(path); }, kind, parts);
  };
  TinyLlama none;
  none.build.u32("llama.expert_count", 8).u32("llama.expert_used_count", 2);
  refuses(none, ErrorKind::bad_file, {"llama.expert_count is 8", "ffn_gate_inp.weight"});
  TinyLlama unused;
  unused.build.u32("llama.expert_count", 8);
  refuses(unused, ErrorKind::bad_file, {"llama.expert_used_count"});
  TinyLlama dense("qwen2");
  dense.build.u32("qwen2.expert_count", 8);
  refuses(dense, ErrorKind::unsupported, {"qwen2.expert_count"});
  TinyLlama wrong = mixture();
  wrong.build.u32("llama.expert_feed_forward_length", 5);
  refuses(wrong, ErrorKind::bad_file, {"ffn_gate_exps.weight", "[3, 2, 4]", "[3, 5, 4]"});
  TinyLlama gating = mixture();
  gating.build.u32("llama.expert_gating_func", 2);
  refuses(gating, ErrorKind::unsupported, {"llama.expert_gating_func"});
  TinyLlama scaled = mixture();
  scaled.build.f32("llama.expert_weights_scale", 2.5F);
  refuses(scaled, ErrorKind::unsupported, {"llama.expert_weights_scale"});
  TinyLlama grouped = mixture();
  grouped.build.u32("llama.expert_group_count", 2);
  refuses(grouped, ErrorKind::unsupported, {"llama.expert_group_count"});
}

}  // namespace
}  // namespace plumb
