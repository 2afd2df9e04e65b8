// Checkpoints of tests/golden as GGUF files (make_gguf_model_goldens.py): the same weights, the
// same logits. golden_test.cpp holds the checkpoints themselves to the reference.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

// GGUF keeps epsilons and rotary bases in float32: 1e-5 becomes 9.99999975e-06, which moves the
// states by 3e-8 of epsilon over variance, and a table of divisors by 6e-8.
constexpr double tolerance = 1e-6;

const std::vector<std::string> cases = {
    "gemma_gelu_untied",  "gemma_mqa",           "gemma2_caps",      "gemma2_scores_capped",
    "gemma3_old_form",    "gemma3_two_ropes",    "gpt2_gelu_new",    "gpt_neox_parallel",
    "gpt_oss_yarn",       "llama_bias_untied",   "llama_gqa_tied",   "llama_padded",
    "llama_rope_linear",  "llama_rope_llama3",   "llama_rope_yarn",  "mistral_full",
    "mistral_window",     "mpt_alibi",           "mpt_six_heads",    "olmo_clipped",
    "olmo_tied",          "olmo2_gqa",           "olmo2_tied",       "olmo3_yarn",
    "phi3_longrope_long", "phi3_longrope_short", "phi3_partial",     "qwen2_tied",
    "qwen3_tied",         "qwen3_untied",        "mixtral_full",     "mixtral_window",
    "olmoe_clipped",      "olmoe_plain",         "qwen2_moe_shared", "qwen3_moe_normalised"};

std::filesystem::path checkpoint_path(const std::string& name) {
  return test::source_dir() / "tests" / "golden" / name;
}

std::filesystem::path gguf_dir() { return checkpoint_path("gguf") / "models"; }

double apart(const at::Tensor& value, const at::Tensor& wanted) {
  EXPECT_EQ(value.sizes(), wanted.sizes());
  if (value.sizes() != wanted.sizes()) return 1;
  return ((value - wanted).abs().max() / wanted.abs().max()).item<double>();
}

class GgufGolden : public testing::TestWithParam<std::string> {
 protected:
  const Checkpoint original_ = Checkpoint::open(checkpoint_path(GetParam()));
  const Checkpoint gguf_ = Checkpoint::open(gguf_dir() / (GetParam() + ".gguf"));
};

TEST_P(GgufGolden, HoldsTheWeightsOfTheCheckpoint) {
  // Mistral without a window is Llama, also by name.
  if (GetParam() != "mistral_full") {
    EXPECT_EQ(gguf_.config().family, original_.config().family);
  }
  EXPECT_EQ(gguf_.parameters(), original_.parameters());
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? original_.config().layers : 1); ++layer) {
      const std::string name = weight_name(weight, layer);
      ASSERT_EQ(gguf_.has(weight, layer), original_.has(weight, layer)) << name;
      if (!gguf_.has(weight, layer)) continue;
      const at::Tensor values = original_.read(weight, layer);
      EXPECT_TRUE(at::equal(gguf_.read(weight, layer), values)) << name;
      if (!is_per_expert(weight)) continue;
      for (int expert = 0; expert < original_.config().experts.count; ++expert) {
        EXPECT_TRUE(at::equal(gguf_.read_expert(weight, layer, expert), values.select(0, expert)))
            << "expert " << expert << " of " << name;
      }
    }
  }
}

TEST_P(GgufGolden, ComputesTheLogitsOfTheCheckpoint) {
  constexpr std::int64_t length = 11;
  const auto ids = at::arange(2 * length, at::kLong).mul(7).remainder(original_.config().vocab);
  const Tokens tokens = {.ids = ids.view({2, length})};
  const LoadOptions options = {.dtype = at::kDouble};
  const at::Tensor wanted = run(Model(original_, options), tokens).logits;
  EXPECT_LE(apart(run(Model(gguf_, options), tokens).logits, wanted), tolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, GgufGolden, testing::ValuesIn(cases),
                         [](const auto& info) { return info.param; });

TEST(GgufGoldenFiles, AreAllCompared) {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(gguf_dir())) {
    found.insert(entry.path().stem().string());
  }
  EXPECT_EQ(found, std::set<std::string>(cases.begin(), cases.end()));
}

}  // namespace
}  // namespace plumb
