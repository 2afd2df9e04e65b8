// The decoder against the reference implementation, on tiny checkpoints of every family and switch.
// make_decoder_goldens.py wrote the files and says what they hold.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "plumb/error.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

// Two float64 forward passes that sum in different orders agree to 7e-15 of the largest entry on
// these models; anything computed in float32 on the way shows as 1e-8 or more.
constexpr double tolerance_double = 1e-12;
// The reference's own float32 pass is off by up to 4e-6 of the largest entry: rounding, amplified
// by the large attention scores of these weights.
constexpr double tolerance_float = 1e-5;

// In bfloat16 weights and the stream keep 8 bits, and these weights make large scores: each of
// three layers moves a score of some 10 by some hundredths. The bounds are half as much again as
// what the family's worst case measures, logits relative to the largest, patterns absolute, with
// the experts that the reference chose: rounding may turn a near tie, and then all that follows is
// another model's.
double bfloat16_bound(const std::string& family) {
  static const std::map<std::string, double> bounds = {
      {"falcon", 0.06},    {"gemma", 0.06},       {"gemma2", 0.06},    {"gemma3_text", 0.07},
      {"gpt2", 0.05},      {"gpt_neo", 0.26},     {"gpt_neox", 0.03},  {"gpt_oss", 0.09},
      {"llama", 0.2},      {"llama4_text", 0.06}, {"mistral", 0.06},   {"mixtral", 0.08},
      {"mpt", 0.05},       {"olmo", 0.09},        {"olmo2", 0.06},     {"olmo3", 0.03},
      {"olmoe", 0.03},     {"opt", 0.04},         {"phi3", 0.19},      {"qwen2", 0.14},
      {"qwen2_moe", 0.07}, {"qwen3", 0.15},       {"qwen3_moe", 0.09}, {"qwen3_next", 0.08},
      {"smollm3", 0.1}};
  return bounds.at(family);
}

// float16 keeps 11 bits: an eighth of bfloat16's rounding. Up to 0.31 of its bound was measured.
double float16_bound(const std::string& family) { return bfloat16_bound(family) / 3.0; }

// "llama_padded", "gpt2_relu_padded" and some others hold rows of unequal length;
// "llama_rope_dynamic" is longer than its model's context; all windows are shorter than the rows.
const std::vector<std::string> cases = {
    "gpt2_gelu_bare", "gpt2_gelu_new", "gpt2_relu_padded", "llama_bias_untied", "llama_gqa_tied",
    "llama_padded", "llama_rope_dynamic", "llama_rope_linear", "llama_rope_llama3",
    "llama_rope_yarn", "llama_rope_yarn_exact", "mistral_full", "mistral_window", "qwen2_tied",
    "qwen2_window", "qwen3_tied", "qwen3_untied", "smollm3_nope", "gemma2_caps",
    "gemma2_scores_capped", "gemma3_old_form", "gemma3_two_ropes", "gemma_gelu_untied", "gemma_mqa",
    "gpt_neo_local", "gpt_neo_padded", "gpt_neox_parallel", "gpt_neox_sequential", "mpt_alibi",
    "mpt_six_heads", "olmo2_gqa", "olmo2_tied", "olmo3_yarn", "olmo_clipped", "olmo_tied",
    "opt_plain_norms", "opt_relu", "phi3_longrope_long", "phi3_longrope_short", "phi3_partial",
    // mixtures of experts
    "gpt_oss_clamped", "gpt_oss_mxfp4", "gpt_oss_yarn", "mixtral_full", "mixtral_window",
    "olmoe_clipped", "olmoe_plain", "qwen2_moe_mixed", "qwen2_moe_shared", "qwen3_moe_mixed",
    "qwen3_moe_normalised", "qwen3_moe_window",
    // later ones
    "falcon_alibi", "falcon_one_key_head", "falcon_one_norm", "falcon_two_norms", "llama4_chunks",
    "llama4_mixed", "qwen3_next_half", "qwen3_next_mixed"};

std::filesystem::path golden_dir() { return test::source_dir() / "tests" / "golden"; }

// Reads a safetensors file of float64 tensors, independently of the reader under test.
std::map<std::string, at::Tensor> read_expected(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) throw std::runtime_error("cannot read " + path.string());
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  const auto header = nlohmann::json::parse(bytes.substr(sizeof header_size, header_size));
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    auto tensor = at::empty(entry.at("shape").get<std::vector<std::int64_t>>(), at::kDouble);
    const auto begin =
        sizeof header_size + header_size + entry.at("data_offsets").at(0).get<std::uint64_t>();
    std::memcpy(tensor.data_ptr<double>(), bytes.data() + begin, tensor.nbytes());
    tensors.emplace(name, tensor);
  }
  return tensors;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    expected_ = read_expected(golden_dir() / "expected" / (GetParam() + ".safetensors"));
    tokens_.ids = expected_.at("tokens").to(at::kLong);
    tokens_.lengths = expected_.at("lengths").to(at::kLong);
    const auto positions = at::arange(tokens_.ids.size(1), at::kLong);
    valid_ = positions.unsqueeze(0) < tokens_.lengths.unsqueeze(1);
  }

  // Largest deviation relative to the largest expected entry, over the valid positions; NaN stays.
  double deviation(const at::Tensor& value, const std::string& name) const {
    const at::Tensor& wanted = expected_.at(name);
    EXPECT_EQ(value.sizes(), wanted.sizes()) << name;
    if (value.sizes() != wanted.sizes()) return std::numeric_limits<double>::infinity();
    const auto valid = value.dim() == 4 ? valid_.unsqueeze(1).unsqueeze(-1) : valid_.unsqueeze(-1);
    const auto wide = value.to(at::kDouble);
    const auto kept = at::where(valid, wide, at::zeros_like(wide));
    return ((kept - wanted).abs().max() / wanted.abs().max()).item<double>();
  }

  void expect_agreement(at::ScalarType dtype, double tolerance) const {
    const Model model = load(golden_dir() / GetParam(), {.dtype = dtype});
    Plan plan;
    for (int layer = 0; layer < model.config().layers; ++layer) {
      plan.record.emplace_back(Site{Part::resid_pre, layer});
      plan.record.emplace_back(Site{Part::pattern, layer});
      if (is_sparse(model.config(), layer)) plan.record.emplace_back(Site{Part::router, layer});
    }
    plan.record.emplace_back(Site{Part::resid_final});
    const auto result = run(model, tokens_, plan);
    std::size_t routers = 0;
    for (int layer = 0; layer < model.config().layers; ++layer) {
      const auto suffix = "." + std::to_string(layer);
      EXPECT_LE(deviation(result.cache.at({Part::resid_pre, layer}), "resid_pre" + suffix),
                tolerance)
          << "resid_pre of layer " << layer;
      EXPECT_LE(deviation(result.cache.at({Part::pattern, layer}), "pattern" + suffix), tolerance)
          << "pattern of layer " << layer;
      if (!is_sparse(model.config(), layer)) continue;
      ++routers;
      EXPECT_LE(deviation(result.cache.at({Part::router, layer}), "router" + suffix), tolerance)
          << "router of layer " << layer;
    }
    EXPECT_LE(deviation(result.cache.at({Part::resid_final}), "resid_final"), tolerance);
    EXPECT_LE(deviation(result.logits, "logits"), tolerance);
    EXPECT_EQ(result.logits.scalar_type(), dtype);
    EXPECT_EQ(expected_.size(),
              4U + routers + 2U * static_cast<std::size_t>(model.config().layers));
  }

  void expect_nearness(const Model& model, at::ScalarType dtype, double bound) const {
    Plan plan;
    for (int layer = 0; layer < model.config().layers; ++layer) {
      plan.record.emplace_back(Site{Part::pattern, layer});
      if (!is_sparse(model.config(), layer)) continue;
      const Site router{Part::router, layer};
      plan.interventions.push_back(
          {router, {}, Put{expected_.at("router." + std::to_string(layer))}});
    }
    const auto result = run(model, tokens_, plan);
    EXPECT_EQ(result.logits.scalar_type(), dtype);
    double worst = deviation(result.logits, "logits");
    for (int layer = 0; layer < model.config().layers; ++layer) {
      const at::Tensor& pattern = result.cache.at({Part::pattern, layer});
      EXPECT_EQ(pattern.scalar_type(), at::kFloat);
      worst = std::max(worst, deviation(pattern, "pattern." + std::to_string(layer)));
    }
    EXPECT_LE(worst, bound);
    RecordProperty("deviation", std::to_string(worst));
  }

  std::map<std::string, at::Tensor> expected_;
  Tokens tokens_;
  at::Tensor valid_;  // [B, T]
};

TEST_P(Golden, AgreesWithTheReferenceInDouble) { expect_agreement(at::kDouble, tolerance_double); }

TEST_P(Golden, AgreesWithTheReferenceInFloat) { expect_agreement(at::kFloat, tolerance_float); }

TEST_P(Golden, StaysNearTheReferenceInBfloat16) {
  const Model model = load(golden_dir() / GetParam(), {.dtype = at::kBFloat16});
  expect_nearness(model, at::kBFloat16, bfloat16_bound(model.config().family));
}

TEST_P(Golden, StaysNearTheReferenceInFloat16OrIsRefused) {
  std::optional<Model> model;
  try {
    model = load(golden_dir() / GetParam(), {.dtype = at::kHalf});
  } catch (const Error& error) {  // LibTorch 1.13 on the CPU
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("does not compute in float16"), std::string::npos)
        << error.what();
    return;
  }
  expect_nearness(*model, at::kHalf, float16_bound(model->config().family));
}

class PaddedGolden : public Golden {};

TEST_P(PaddedGolden, DoesNotDependOnThePaddingIds) {
  ASSERT_FALSE(valid_.all().item<bool>());
  const Model model = load(golden_dir() / GetParam(), {.dtype = at::kDouble});
  tokens_.ids = at::where(valid_, tokens_.ids, at::zeros_like(tokens_.ids));
  EXPECT_LE(deviation(run(model, tokens_).logits, "logits"), tolerance_double);
}

INSTANTIATE_TEST_SUITE_P(Decoder, Golden, testing::ValuesIn(cases),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Decoder, PaddedGolden,
                         testing::Values("gpt2_relu_padded", "llama_padded", "gemma3_old_form",
                                         "gpt_neo_padded", "mpt_alibi", "opt_plain_norms",
                                         "qwen3_moe_window", "gpt_oss_clamped", "falcon_alibi",
                                         "llama4_mixed", "qwen3_next_mixed"),
                         [](const auto& info) { return info.param; });

TEST(GoldenFiles, AreAllCompared) {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(golden_dir() / "expected")) {
    found.insert(entry.path().stem().string());
  }
  EXPECT_EQ(found, std::set<std::string>(cases.begin(), cases.end()));
}

}  // namespace
}  // namespace plumb
