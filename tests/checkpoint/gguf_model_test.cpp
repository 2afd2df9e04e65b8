// Whole models in GGUF files: those that PyPI's gguf wrote, ones made here, and SmolLM2.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>
#include <vector>

#include "checkpoint/files.h"
#include "checkpoint/tiny_gguf.h"
#include "plumb/checkpoint.h"
#include "plumb/hash.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::expect_error;
using test::GgufBuilder;
using test::TinyLlama;

void expect_golden(const std::string& model, const std::string& file = {}) {
  const fs::path directory = test::source_dir() / "tests/golden/gguf";
  const auto golden = nlohmann::json::parse(test::read_bytes(directory / "expected.json"));
  const Checkpoint checkpoint =
      Checkpoint::open(directory / ((file.empty() ? model : file) + ".gguf"));
  EXPECT_EQ(checkpoint.format(), "gguf");
  EXPECT_EQ(checkpoint.name(), model);
  std::size_t seen = 0;
  for (const Weight weight : all_weights()) {
    if (!checkpoint.has(weight)) continue;
    const at::Tensor values = checkpoint.read(weight);
    const std::string name = weight_name(weight);
    EXPECT_EQ(sha256_hex(values.data_ptr<float>(), static_cast<std::size_t>(values.numel()) * 4),
              golden["sha256 of float32"][model][name].get<std::string>())
        << name;
    EXPECT_TRUE(at::equal(checkpoint.read(weight, 0, at::kDouble), values.to(at::kDouble))) << name;
    if (values.dim() == 2) {
      EXPECT_TRUE(at::equal(checkpoint.read_rows(weight, {5, 2}),
                            values.index_select(0, at::tensor(std::vector<std::int64_t>{5, 2}))))
          << name;
    }
    ++seen;
  }
  EXPECT_EQ(seen, golden["sha256 of float32"][model].size());
}

TEST(GgufModel, LlamaEqualsTheReferenceBitForBit) {
  expect_golden("llama");
  const auto path = test::source_dir() / "tests/golden/gguf/llama.gguf";
  const ModelConfig config = Checkpoint::open(path).config();
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.rope.theta, 5000);
  EXPECT_EQ(config.rope.dims, 16);
  EXPECT_EQ(config.norm_eps, static_cast<double>(1e-5F));
  EXPECT_TRUE(config.qkv_bias && !config.out_bias && !config.tied);
}

TEST(GgufModel, ASplitModelEqualsTheReferenceBitForBit) {
  expect_golden("split", "split-00001-of-00003");
}

TEST(GgufModel, Gpt2EqualsTheReferenceBitForBit) {
  expect_golden("gpt2");
  const ModelConfig config =
      Checkpoint::open(test::source_dir() / "tests/golden/gguf/gpt2.gguf").config();
  EXPECT_EQ(config.positions, Positions::learned);
  EXPECT_EQ(config.norm, Norm::layer);
  EXPECT_TRUE(config.tied && config.qkv_bias && !config.gated_mlp);
}

at::Tensor first_column(const at::Tensor& matrix) { return matrix.select(1, 0); }

TEST(GgufModel, RotatedRowsAreReorderedForLlamaOnly) {
  const Checkpoint llama = Checkpoint::open(TinyLlama().write());
  // One head of 4 channels: stored rows are pairs (0, 1), (2, 3); half-split pairs i with i + 2.
  EXPECT_TRUE(at::equal(first_column(llama.read(Weight::q)), at::tensor({0.F, 2.F, 1.F, 3.F})));
  EXPECT_TRUE(at::equal(first_column(llama.read(Weight::k)), at::tensor({0.F, 2.F, 1.F, 3.F})));
  EXPECT_TRUE(at::equal(first_column(llama.read(Weight::v)), at::tensor({0.F, 1.F, 2.F, 3.F})));
  const Checkpoint qwen = Checkpoint::open(TinyLlama("qwen2").write());
  EXPECT_TRUE(at::equal(first_column(qwen.read(Weight::q)), at::tensor({0.F, 1.F, 2.F, 3.F})));
  EXPECT_EQ(qwen.config().family, "qwen2");
}

TEST(GgufModel, RefusesOtherArchitecturesAndSettings) {
  const auto refuses = [](const TinyLlama& model, ErrorKind kind,
                          const std::vector<std::string>& parts) {
    const fs::path path = model.write();
    std::vector<std::string> all = parts;
    all.push_back(path.string());
    expect_error([&] { Checkpoint::open(path); }, kind, all);
  };
  refuses(TinyLlama("mamba"), ErrorKind::unsupported,
          {"\"mamba\"", "gpt2, gptneox, gpt-oss, llama", "qwen2moe, qwen3, qwen3moe"});
  TinyLlama windowed("qwen2");
  windowed.build.u32("qwen2.attention.sliding_window", 8);
  refuses(windowed, ErrorKind::unsupported, {"qwen2.attention.sliding_window"});
  TinyLlama future;
  future.build.f32("llama.attention.of_tomorrow", 0.5F);
  refuses(future, ErrorKind::unsupported, {"llama.attention.of_tomorrow"});
  TinyLlama list;
  list.build.raw("llama.layers.twisted", 9,
                 test::bytes_of(std::uint32_t{5}) + test::bytes_of(std::uint64_t{1}) + "abcd");
  refuses(list, ErrorKind::unsupported, {"llama.layers.twisted"});
  TinyLlama word;
  word.build.string("llama.attention.kind", "linear");
  refuses(word, ErrorKind::unsupported, {"llama.attention.kind"});
  TinyLlama both_ways;
  both_ways.build.raw("llama.attention.causal", 7, std::string(1, '\0'));
  refuses(both_ways, ErrorKind::unsupported, {"llama.attention.causal"});
  TinyLlama no_experts;
  no_experts.build.u32("llama.expert_count", 0);
  EXPECT_NO_THROW(Checkpoint::open(no_experts.write()));
  TinyLlama partial;
  partial.build.u32("llama.rope.dimension_count", 2);
  refuses(partial, ErrorKind::unsupported, {"llama.rope.dimension_count"});
  TinyLlama long_rope;
  long_rope.build.string("llama.rope.scaling.type", "longrope");
  refuses(long_rope, ErrorKind::bad_file, {"rope_factors_short.weight", "missing"});
  TinyLlama twisted;
  twisted.build.string("llama.rope.scaling.type", "twisted");
  refuses(twisted, ErrorKind::unsupported, {"\"twisted\""});
  TinyLlama sizes;
  sizes.build.u32("llama.vocab_size", 4);
  refuses(sizes, ErrorKind::bad_file, {"\"token_embd.weight\"", "[3, 4]", "[4, 4]"});
  TinyLlama stray;
  stray.vector("blk.0.attn_sinks.weight");
  refuses(stray, ErrorKind::bad_file, {"\"blk.0.attn_sinks.weight\"", "no place"});
  GgufBuilder nothing;
  nothing.u32("k", 1);
  const fs::path path = test::scratch_dir() / "none.gguf";
  test::write_bytes(path, nothing.bytes());
  expect_error([&] { Checkpoint::open(path); }, ErrorKind::bad_file, {"general.architecture"});
}

TEST(GgufModel, PassesOverKeysThatSayNothing) {
  TinyLlama model;
  model.build.u32("llama.expert_count", 0)
      .f32("llama.logit_scale", 0)
      .raw("llama.use_parallel_residual", 7, std::string(1, '\0'))
      .raw("llama.attention.causal", 7, std::string(1, '\1'))
      .string("llama.tensor_data_layout", "Meta AI original pth")
      .raw("llama.rope.dimension_sections", 9,
           test::bytes_of(std::uint32_t{5}) + test::bytes_of(std::uint64_t{0}))
      .u32("other.expert_count", 8);
  EXPECT_NO_THROW(Checkpoint::open(model.write()));
}

TEST(GgufModel, CountsMayBeListsOfOneForEachLayer) {
  const auto counts = [](std::vector<std::uint32_t> values) {
    std::string bytes = test::bytes_of(std::uint32_t{4});
    bytes += test::bytes_of(static_cast<std::uint64_t>(values.size()));
    for (const std::uint32_t value : values) bytes += test::bytes_of(value);
    return bytes;
  };
  TinyLlama equal;
  equal.build.raw("llama.attention.head_count_kv", 9, counts({1, 1}));
  EXPECT_EQ(Checkpoint::open(equal.write()).config().kv_heads, 1);
  TinyLlama different;
  different.build.raw("llama.attention.head_count_kv", 9, counts({1, 2}));
  expect_error([&] { Checkpoint::open(different.write()); }, ErrorKind::unsupported,
               {"llama.attention.head_count_kv", "differs between the layers"});
  for (const auto& wrong : {counts({}), counts({0}), counts({4'000'000'000U})}) {
    TinyLlama model;
    model.build.raw("llama.attention.head_count_kv", 9, wrong);
    expect_error([&] { Checkpoint::open(model.write()); }, ErrorKind::bad_file,
                 {"llama.attention.head_count_kv"});
  }
}

TEST(GgufModel, ALlamaWithAWindowIsAMistral) {
  TinyLlama model;
  model.build.u32("llama.attention.sliding_window", 8);
  const ModelConfig config = Checkpoint::open(model.write()).config();
  EXPECT_EQ(config.family, "mistral");
  EXPECT_EQ(config.windows, std::vector<int>{8});
}

TEST(GgufModel, EveryFourthLayerOfSmollm3DoesNotRotate) {
  TinyLlama model("smollm3", 8);
  const Checkpoint checkpoint = Checkpoint::open(model.write());
  EXPECT_EQ(checkpoint.config().rope_layers, (std::vector<std::uint8_t>{1, 1, 1, 0, 1, 1, 1, 0}));
  EXPECT_TRUE(
      at::equal(first_column(checkpoint.read(Weight::q, 7)), at::tensor({0.F, 2.F, 1.F, 3.F})));
}

TEST(GgufModel, ReadsRopeScaling) {
  TinyLlama linear;
  linear.build.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4);
  const Rope scaled = Checkpoint::open(linear.write()).config().rope;
  EXPECT_EQ(scaled.scaling, RopeScaling::linear);
  EXPECT_EQ(scaled.factor, 4);
  TinyLlama yarn;
  yarn.build.string("llama.rope.scaling.type", "yarn")
      .f32("llama.rope.scaling.factor", 4)
      .u32("llama.rope.scaling.original_context_length", 8);
  const Rope stretched = Checkpoint::open(yarn.write()).config().rope;
  EXPECT_EQ(stretched.scaling, RopeScaling::yarn);
  EXPECT_EQ(stretched.original_context, 8);
  EXPECT_DOUBLE_EQ(stretched.attention_factor, 0.1 * std::log(4.0) + 1);
}

TEST(GgufModel, RecognisesTheTableOfLlama3) {
  const auto table = [](double factor, double theta) {
    std::vector<float> divisors;
    for (int i = 0; i < 2; ++i) {
      const double wavelength = 2 * std::numbers::pi * std::pow(theta, i / 2.0);
      const double smooth = std::min(1.0, std::max(0.0, (8192 / wavelength - 1) / 3));
      divisors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
    return divisors;
  };
  constexpr float theta = 1e8F;
  TinyLlama model;
  model.build.f32("llama.rope.freq_base", theta);
  model.build.tensor("rope_freqs.weight", {2}, 0, test::floats(table(8, theta)));
  const Rope rope = Checkpoint::open(model.write()).config().rope;
  EXPECT_EQ(rope.scaling, RopeScaling::llama3);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.original_context, 8192);
  TinyLlama ones;
  ones.build.tensor("rope_freqs.weight", {2}, 0, test::floats({1, 1}));
  EXPECT_EQ(Checkpoint::open(ones.write()).config().rope.scaling, RopeScaling::none);
  TinyLlama other;
  other.build.tensor("rope_freqs.weight", {2}, 0, test::floats({2, 3}));
  const Rope table_alone = Checkpoint::open(other.write()).config().rope;
  EXPECT_EQ(table_alone.scaling, RopeScaling::longrope);
  EXPECT_EQ(table_alone.short_factors, (std::vector<double>{2, 3}));
  EXPECT_EQ(table_alone.long_factors, (std::vector<double>{2, 3}));
  EXPECT_EQ(table_alone.attention_factor, 1);
  TinyLlama both;
  both.build.tensor("rope_freqs.weight", {2}, 0, test::floats({2, 3}));
  both.build.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4);
  expect_error([&] { Checkpoint::open(both.write()); }, ErrorKind::unsupported, {"rope_freqs"});
  TinyLlama zero;
  zero.build.tensor("rope_freqs.weight", {2}, 0, test::floats({2, 0}));
  expect_error([&] { Checkpoint::open(zero.write()); }, ErrorKind::bad_file, {"factors"});
  TinyLlama shape;
  shape.build.tensor("rope_freqs.weight", {3}, 0, test::floats({2, 2, 2}));
  expect_error([&] { Checkpoint::open(shape.write()); }, ErrorKind::bad_file,
               {"rope_freqs", "[2]"});
}

TEST(Smollm2, ReadsAsDocumented) {
  const fs::path path = test::model_file("smollm2-135m.gguf");
  if (!fs::exists(path)) GTEST_SKIP() << path << " (fetch it with data/models/get smollm2-135m)";
  const Checkpoint checkpoint = Checkpoint::open(path);
  EXPECT_EQ(checkpoint.sha256(),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  EXPECT_EQ(checkpoint.name(), "smollm2-135m");
  EXPECT_EQ(checkpoint.tensors().size(), 272U);
  EXPECT_EQ(checkpoint.parameters(), 134515008);
  const ModelConfig& config = checkpoint.config();
  EXPECT_EQ(config.layers, 30);
  EXPECT_EQ(config.heads, 9);
  EXPECT_EQ(config.kv_heads, 3);
  EXPECT_EQ(config.d_model, 576);
  EXPECT_EQ(config.d_head, 64);
  EXPECT_EQ(config.d_mlp, 1536);
  EXPECT_EQ(config.vocab, 49152);
  EXPECT_EQ(config.context, 8192);
  EXPECT_EQ(config.rope.theta, 1e5);
  EXPECT_EQ(config.norm_eps, 9.999999747378752e-06);
  EXPECT_TRUE(config.tied);

  // First weights of the first Q4_1 block, and of the Q8_0 embedding.
  const at::Tensor q = checkpoint.read(Weight::q, 0, at::kDouble);
  const std::vector<double> start = {-0.0963134765625, 0.1573486328125, -0.0963134765625,
                                     -0.73046875, 1.1719970703125};
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(q[0][i].item<double>(), start[static_cast<std::size_t>(i)]);
  }
  const at::Tensor embed = checkpoint.read_rows(Weight::embed, {0}, at::kDouble);
  constexpr double printed = 5e-9;  // the reference gives eight digits
  const std::vector<double> row = {-0.10654449, 0.03297806, 0.0481987, -0.02283096};
  for (std::int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(embed[0][i].item<double>(), row[static_cast<std::size_t>(i)], printed);
  }
}

}  // namespace
}  // namespace plumb
