// The ladder on models without a circuit: every kind of decoder with random weights, and small
// trained ones. Nothing may be claimed of them, and nothing may fail.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "plumb/checkpoint.h"
#include "plumb/error.h"
#include "plumb/p0.h"
#include "support/paths.h"
#include "support/token_lists.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

constexpr std::int64_t sequences = 8;
constexpr std::int64_t length = 24;
constexpr std::int64_t masked_position = 10;

P0Report climb(const Model& model, const Tokens& tokens, const Tokens& others) {
  P0Inputs inputs;
  inputs.plain = make_inputs(as_lists(tokens.ids), length, {}, "tokens");
  inputs.random = make_inputs(as_lists(others.ids), length, {}, "random");
  P0Options options;
  options.causal_sequences = sequences;
  options.causal_length = length;
  options.self_mask_position = masked_position;
  return locate_p0(model, inputs, options);
}

// "positional: L1 yes, L2 no" of each wave, for the reader of a failure.
std::string told(const P0Report& report) {
  std::string text = to_string(report.verdict);
  for (const auto& wave : report.waves) {
    text += std::string("; a wave: ") + to_string(wave.verdict);
    for (const auto& rung : wave.ladder) text += ", " + rung.level + " " + to_string(rung.holds);
  }
  return text;
}

// A circuit is claimed where a wave is called positional and every rung up to L6 holds.
bool claims_a_circuit(const WaveReport& wave) {
  return wave.verdict == Verdict::positional &&
         std::ranges::all_of(wave.ladder, [](const Rung& rung) {
           return rung.level > "L6" || rung.holds == Holds::yes;
         });
}

class EveryDecoder : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Configs, EveryDecoder, testing::Range(0, config_kinds));

TEST_P(EveryDecoder, WithRandomWeightsHasNoCircuit) {
  const ModelConfig config = any_config(static_cast<std::uint64_t>(GetParam()));
  const Model model = toy_model(config, 1);
  const P0Report report = climb(model, toy_tokens(config, sequences, length, 2),
                                toy_tokens(config, sequences, length, 3));
  SCOPED_TRACE(config.family + ": " + told(report));
  EXPECT_TRUE(report.complete);
  for (const auto& wave : report.waves) EXPECT_FALSE(claims_a_circuit(wave));
  EXPECT_NO_THROW(check(report.circuit));
  // Either there is nothing, and the report says so, or what there is has its ladder.
  if (report.waves.empty()) {
    EXPECT_FALSE(report.notes.empty());
    EXPECT_TRUE(report.verdict == Verdict::none || report.verdict == Verdict::secondary ||
                report.verdict == Verdict::sink_logits);
  }
  for (const auto& wave : report.waves) EXPECT_EQ(wave.ladder.size(), 9U);
}

class SmallTrainedModel : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, SmallTrainedModel,
                         testing::Values("stories260K", "llama2xs-281K"));

TEST_P(SmallTrainedModel, HasNoCircuit) {
  const auto directory = shared_dir() / "models" / GetParam() / "derived-hf";
  if (!std::filesystem::exists(directory / "config.json")) {
    GTEST_SKIP() << (directory / "config.json").string() << " is missing";
  }
  const Model model = load(directory);
  const P0Report report = climb(model, toy_tokens(model.config(), sequences, length, 2),
                                toy_tokens(model.config(), sequences, length, 3));
  SCOPED_TRACE(told(report));
  EXPECT_TRUE(report.complete);
  for (const auto& wave : report.waves) EXPECT_FALSE(claims_a_circuit(wave));
}

}  // namespace
}  // namespace plumb::test
