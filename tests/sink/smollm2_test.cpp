// SmolLM2-135M against its golden values: the model is fetched, the values lie beside the checkout.
// Absent, the tests are skipped and say what is missing.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/metrics.h"
#include "plumb/p0.h"
#include "support/paths.h"

namespace plumb {
namespace {

// Ten times or more the largest float32-against-float64 gap that the golden file states per
// quantity.
constexpr double loss_tolerance = 1e-4;
constexpr double logit_tolerance = 5e-4;
constexpr double sink_tolerance = 5e-6;
constexpr double norm_tolerance = 3e-5;

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const auto model = test::model_file("smollm2-135m.gguf");
    const auto golden = test::shared_dir() / "models/smollm2/smollm2_golden.json";
    if (!std::filesystem::exists(model))
      GTEST_SKIP() << model.string() << " is missing; see data/models/get";
    if (!std::filesystem::exists(golden)) GTEST_SKIP() << golden.string() << " is missing";
    model_ = std::make_unique<Model>(load(model));
    golden_ = nlohmann::json::parse(std::ifstream(golden));
  }
  std::unique_ptr<Model> model_;
  nlohmann::json golden_;
};

TEST_F(SmolLm2, LossesLogitsNormsAndSinksAreTheGoldenOnes) {
  for (const char* name :
       {"eiffel", "digits", "contractions", "emoji", "cjk", "spaces", "code", "chat", "repeat"}) {
    const auto& expected = golden_.at(name);
    const std::vector<std::int64_t> ids = expected.at("ids");
    const Inputs inputs = make_inputs({ids}, static_cast<std::int64_t>(ids.size()), {}, "tokens");
    const auto run = plumb::run(*model_, inputs.tokens);
    const at::Tensor loss = token_loss(run.logits, inputs.tokens.ids)[0];
    const std::vector<double> nll = expected.at("nll");
    EXPECT_LT((loss.to(at::kDouble) - at::tensor(nll, at::kDouble)).abs().max().item<double>(),
              loss_tolerance)
        << name;
    const auto [values, order] = run.logits[0][-1].topk(5);
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(order[i].item<std::int64_t>(),
                expected.at("top5")[static_cast<std::size_t>(i)][0].get<std::int64_t>())
          << name;
      EXPECT_NEAR(values[i].item<double>(),
                  expected.at("top5")[static_cast<std::size_t>(i)][2].get<double>(),
                  logit_tolerance)
          << name;
    }
    const SinkSurvey survey = survey_sink(*model_, inputs);
    for (int layer = 0; layer < 30; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      const std::vector<double> heads = expected.at("sink")[l];
      EXPECT_LT((survey.mean[layer].to(at::kDouble) - at::tensor(heads, at::kDouble))
                    .abs()
                    .max()
                    .item<double>(),
                sink_tolerance)
          << name << " layer " << layer;
      const double norm = expected.at("norm_p0")[l];
      EXPECT_NEAR(survey.p0_norm[2 * layer].item<double>(), norm, norm_tolerance * norm)
          << name << " layer " << layer;
    }
  }
}

TEST_F(SmolLm2, HasTwoPositionalWavesWithTheirWritersAndErasers) {
  const auto& population = golden_.at("_population");
  const auto sequences = [&](const char* key) {
    return std::vector<std::vector<std::int64_t>>(population.at(key));
  };
  P0Inputs inputs;
  inputs.plain = make_inputs(sequences("text_ids"), 128, {}, "text");
  inputs.random = head(make_inputs(sequences("random_ids"), 128, {}, "random"), 16, 128);
  P0Options options;
  options.donors = std::vector<std::int64_t>(population.at("donor_t"));
  const P0Report report = locate_p0(*model_, inputs, options);

  ASSERT_EQ(report.waves.size(), 2U);
  const WaveReport& early = report.waves[0];
  const WaveReport& late = report.waves[1];
  EXPECT_EQ(early.wave.onset, 3);
  EXPECT_EQ(early.wave.last, 9);
  EXPECT_EQ(late.wave.onset, 12);
  EXPECT_EQ(late.wave.last, 29);
  EXPECT_EQ(early.verdict, Verdict::positional);
  EXPECT_EQ(late.verdict, Verdict::positional);
  EXPECT_EQ(early.writers, (std::vector<std::string>{"m1", "m2"}));
  EXPECT_EQ(late.writers, (std::vector<std::string>{"m11"}));
  EXPECT_EQ(early.erasers, (std::vector<std::string>{"m8", "m9"}));
  EXPECT_EQ(early.smallest_mask, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(early.backups, (std::vector<std::vector<std::string>>{{"m1", "m2"}}));
  EXPECT_GT(early.vocabulary_share, 0.998);
  EXPECT_GT(late.vocabulary_share, 0.999);

  // The golden table's donors and sequences are ours, so what is read at position 0 must agree to
  // rounding, which knock-outs amplify: 1e-3 relative. Norms alone, since its sinks average over
  // other layers.
  const auto& knockouts = golden_.at("_causal").at("knockout");
  int compared = 0;
  for (const auto& [wave, norm] : {std::pair{&early, "N3"}, std::pair{&late, "N12"}}) {
    for (const auto* effects : {&wave->knockouts, &wave->sets}) {
      for (const auto& effect : *effects) {
        const auto found = knockouts.find(effect.kind + " " + effect.name);
        if (found == knockouts.end()) continue;
        const double expected = found->at(norm)[0];
        EXPECT_NEAR(effect.norm.mean, expected, 1e-3 * expected)
            << effect.name << " by " << effect.kind;
        ++compared;
        if (!effect.loss_change) continue;
        EXPECT_NEAR(effect.loss_change->mean, found->at("dnll")[0].get<double>(), 2e-3)
            << effect.name;
      }
    }
  }
  EXPECT_GE(compared, 40);
}

}  // namespace
}  // namespace plumb
