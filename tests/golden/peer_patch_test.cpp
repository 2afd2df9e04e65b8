// TransformerLens' patching sweeps on two tiny models whose weights a formula gives. The golden
// file lies beside the checkout; absent, the test is skipped and says so.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/patch.h"
#include "support/golden_json.h"
#include "support/hash_weights.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Both sides in float64 over the same float32-exact weights.
constexpr double tolerance = 1e-10;

class PeerPatch : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, PeerPatch, testing::Values("gpt2", "llama"));

TEST_P(PeerPatch, SweepsAgreeWithTransformerLens) {
  const auto file = test::shared_dir() / "models" / "goldens" / "goldens_peers.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file.string() << " is missing";
  const Json golden = Json::parse(std::ifstream(file)).at("models").at(GetParam());
  const Model model = test::hash_model(GetParam());
  std::vector<PairIds> list;
  for (std::size_t b = 0; b < golden.at("answers").size(); ++b) {
    list.push_back({.clean = golden.at("tokens_clean").at(b),
                    .corrupt = golden.at("tokens_corrupt").at(b),
                    .right = golden.at("answers").at(b).at(0),
                    .wrong = golden.at("answers").at(b).at(1)});
  }
  const Pairs pairs = make_pairs(list);
  // q and k of the rotary model are pasted before the rotation there, which is linear and acts on
  // each position by itself: pasting whole values gives the same.
  const std::vector<std::pair<const char*, const char*>> sweeps = {
      {"resid_pre", "resid_pre:layer,position"},
      {"resid_mid", "resid_mid:layer,position"},
      {"attn_out", "attn_out:layer,position"},
      {"mlp_out", "mlp_out:layer,position"},
      {"z_by_head_pos", "z:layer,position,head"},
      {"q_by_head_pos", "q:layer,position,head"},
      {"k_by_head_pos", "k:layer,position,head"},
      {"v_by_head_pos", "v:layer,position,head"},
      {"z_by_head", "z:layer,head"},
      {"q_by_head", "q:layer,head"},
      {"k_by_head", "k:layer,head"},
      {"v_by_head", "v:layer,head"},
      {"pattern_by_head", "pattern:layer,head"}};
  std::vector<SweepSpec> specs;
  for (const auto& [name, spec] : sweeps) specs.push_back(parse_sweep(spec));
  const PatchReport report = patch(model, pairs, specs, {.raw = true});
  EXPECT_NEAR(report.clean_mean.mean, golden.at("ld_clean").get<double>(), tolerance);
  EXPECT_NEAR(report.corrupt_mean.mean, golden.at("ld_corrupt").get<double>(), tolerance);
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    const at::Tensor expected =
        test::tensor_of(golden.at("act_patch").at("sites").at(sweeps[i].first).at("values"));
    ASSERT_EQ(report.sweeps[i].values.sizes(), expected.sizes()) << sweeps[i].first;
    EXPECT_LT((report.sweeps[i].values - expected).abs().max().item<double>(), tolerance)
        << sweeps[i].first;
  }
}

}  // namespace
}  // namespace plumb
