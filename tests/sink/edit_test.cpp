// Edits of weights and of runs, against formulas and plain masks.
#include "plumb/edit.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plumb/error.h"
#include "plumb/plant.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "support/paths.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// Of float64, after sums over some hundred terms.
constexpr double wide_rounding = 1e-11;

at::Tensor some_direction(std::int64_t width) {
  return at::arange(1, width + 1, at::kDouble).sin() * 3.0;
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

TEST(Edit, WhatIsTakenOutIsWrittenNoMore) {
  int refused = 0;
  for (std::uint64_t kind = 0; kind < config_kinds; ++kind) {
    const ModelConfig config = any_config(kind);
    const Model model = toy_model(config, kind);
    const at::Tensor direction = some_direction(config.d_model);
    const EditOptions options{.direction = direction, .writers = "m0+a1"};
    if (config.norm_place != NormPlace::before) {
      ++refused;
      EXPECT_THROW(edit_weights(model, options), Error) << config.family;
      continue;
    }
    const EditedModel edited = edit_weights(model, options);
    EXPECT_TRUE(edited.not_written.empty());
    EXPECT_FALSE(edited.changed.empty());
    const Plan plan{.record = {Site{Part::mlp_out, 0}, Site{Part::attn_out, 1},
                               Site{Part::attn_out, 0}, Site{Part::mlp_out, 1}}};
    const Tokens tokens = toy_tokens(config, 2, 7, kind);
    const auto before = run(model, tokens, plan);
    const auto after = run(edited.model, tokens, plan);
    const at::Tensor unit = direction / direction.norm();
    const auto along = [&](const auto& made, Site site) {
      const at::Tensor& write = made.cache.at(site);
      return largest(at::matmul(write, unit)) / largest(write);
    };
    for (const Site site : {Site{Part::mlp_out, 0}, Site{Part::attn_out, 1}}) {
      EXPECT_LT(along(after, site), wide_rounding) << config.family << " " << to_string(site);
      EXPECT_GT(along(before, site), 1e-6) << config.family << " " << to_string(site);
    }
    // What the others write first is untouched.
    const Site first{Part::attn_out, 0};
    EXPECT_TRUE(at::equal(before.cache.at(first), after.cache.at(first))) << config.family;
    EXPECT_GT(along(after, {Part::mlp_out, 1}), 1e-6) << config.family;
  }
  EXPECT_GT(refused, 0);
}

TEST(Edit, SilencedComponentsWriteZero) {
  const ModelConfig config = random_config(1);
  const Model model = toy_model(config, 1);
  const EditedModel edited = edit_weights(model, {.silence = "a0,m1"});
  const auto made =
      run(edited.model, toy_tokens(config, 2, 6, 1),
          {.record = {Site{Part::attn_out, 0}, Site{Part::mlp_out, 1}, Site{Part::mlp_out, 0}}});
  EXPECT_EQ(largest(made.cache.at({Part::attn_out, 0})), 0.0);
  EXPECT_EQ(largest(made.cache.at({Part::mlp_out, 1})), 0.0);
  EXPECT_GT(largest(made.cache.at({Part::mlp_out, 0})), 0.0);
}

TEST(Edit, RoundingOfKnownValues) {
  const at::Tensor x =
      at::tensor({1.0, -0.5, 0.26, 0.0, 0.0, 0.0, -7.0, 3.4, 0.1}, at::kDouble).view({1, 3, 3});
  // Three levels to each side: steps of 1/3 in the first token; -1.5 goes to the even -2.
  const at::Tensor tokens = rounded(x, 3, Rounding::per_token);
  const at::Tensor expected =
      at::tensor({1.0, -2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0, -7.0, 7.0 / 3.0, 0.0}, at::kDouble)
          .view({1, 3, 3});
  EXPECT_LT(largest(tokens - expected), wide_rounding);
  const at::Tensor whole = rounded(x, 3, Rounding::per_tensor);
  const at::Tensor shared =
      at::tensor({0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -7.0, 7.0 / 3.0, 0.0}, at::kDouble).view({1, 3, 3});
  EXPECT_LT(largest(whole - shared), wide_rounding);
  // Twice is once, and the error is at most half a step.
  const at::Tensor random = at::arange(60, at::kDouble).sin().view({2, 5, 6});
  for (const int bits : {2, 4, 8}) {
    const at::Tensor once = rounded(random, bits, Rounding::per_token);
    EXPECT_LT(largest(rounded(once, bits, Rounding::per_token) - once), wide_rounding);
    const double step = 1.0 / (std::exp2(bits - 1) - 1.0);
    EXPECT_LE(largest(once - random), 0.5 * step + wide_rounding);
  }
  // Heads of a position share its scale.
  const at::Tensor heads = rounded(x.view({1, 1, 3, 3}), 3, Rounding::per_token);
  EXPECT_LT(largest(heads.view({1, 3, 3}) - shared), wide_rounding);
}

TEST(Edit, AWindowIsTheMaskItSays) {
  const ModelConfig config = random_config(0);
  const Model model = toy_model(config, 2);
  constexpr std::int64_t T = 9;
  const Tokens tokens = toy_tokens(config, 2, T, 2);
  const auto windowed = [&](std::int64_t window, std::int64_t keep) {
    return run(model, tokens,
               {.record = {Site{Part::scores, 0}, Site{Part::pattern, 0}},
                .interventions = window_edits(config.layers, T, window, keep)});
  };
  // Without kept tokens: the windows of the decoder itself.
  ModelConfig own = config;
  own.windows.assign(static_cast<std::size_t>(config.layers), 3);
  const Model twin(own, [&model](Weight weight, int layer) { return model.weight(weight, layer); },
                   "twin", {.dtype = at::kDouble});
  EXPECT_LT(largest(windowed(3, 0).logits - run(twin, tokens).logits), wide_rounding);
  // All kept, or a window of all: nothing is hidden.
  const at::Tensor plain = run(model, tokens).logits;
  EXPECT_LT(largest(windowed(1, T).logits - plain), wide_rounding);
  EXPECT_LT(largest(windowed(T, 0).logits - plain), wide_rounding);
  // Two kept beside a window of three: a softmax over those alone.
  const at::Tensor scores =
      run(model, tokens, {.record = {Site{Part::scores, 0}}}).cache.at({Part::scores, 0});
  const at::Tensor pattern = windowed(3, 2).cache.at({Part::pattern, 0});
  for (std::int64_t q = 0; q < T; ++q) {
    double sum = 0.0;
    const auto seen = [&](std::int64_t k) { return k <= q && (k > q - 3 || k < 2); };
    for (std::int64_t k = 0; k < T; ++k)
      sum += seen(k) ? std::exp(scores[1][0][q][k].item<double>()) : 0.0;
    for (std::int64_t k = 0; k < T; ++k) {
      const double expected = seen(k) ? std::exp(scores[1][0][q][k].item<double>()) / sum : 0.0;
      EXPECT_NEAR(pattern[1][0][q][k].item<double>(), expected, wide_rounding) << q << " " << k;
    }
  }
}

TEST(Edit, ASlotTakesItsShareOfEveryRow) {
  const ModelConfig config = random_config(0);
  const Model model = toy_model(config, 3);
  const EditedModel edited = edit_weights(model, {.sink_slot = 0.7});
  EXPECT_NE(edited.not_written.find("sink logit"), std::string::npos) << edited.not_written;
  const Tokens tokens = toy_tokens(config, 1, 6, 3);
  const at::Tensor scores =
      run(model, tokens, {.record = {Site{Part::scores, 0}}}).cache.at({Part::scores, 0});
  const at::Tensor pattern =
      run(edited.model, tokens, {.record = {Site{Part::pattern, 0}}}).cache.at({Part::pattern, 0});
  const at::Tensor weights = scores.exp();
  EXPECT_LT(largest(pattern - weights / (weights.sum(-1, true) + std::exp(0.7))), wide_rounding);
  // Two slots weigh what both did.
  const EditedModel twice = edit_weights(edited.model, {.sink_slot = 0.7});
  EXPECT_TRUE(twice.not_written.empty());
  EXPECT_NEAR(twice.model.weight(Weight::sinks, 0)[0].item<double>(), 0.7 + std::log(2.0),
              wide_rounding);
}

struct PlantedModel {
  Checkpoint checkpoint;
  Model model;
  Inputs inputs;
};

PlantedModel planted_model() {
  const auto place = scratch_dir() / "planted";
  write_planted(plant({}), place);
  Checkpoint checkpoint = Checkpoint::open(place);
  Model model(checkpoint, {.threads = 1});
  Inputs inputs =
      make_inputs(random_ids(6, 20, model.config().vocab, nullptr, 5), 20, {}, "random");
  return {std::move(checkpoint), std::move(model), std::move(inputs)};
}

TEST(Edit, TakingThePlantedDirectionOutEndsTheSinkAndReloadsWithTheSameBits) {
  const PlantedModel made = planted_model();
  const SinkDirection found = find_sink_direction(made.model, made.inputs);
  EXPECT_EQ(found.onset, 2);
  EXPECT_EQ(found.writers, "a0+m0+a1+m1");
  EditOptions options{.direction = found.direction, .writers = found.writers};
  const EditedModel edited = edit_weights(made.model, options);
  const EditReport report = measure_edit(made.model, edited, made.inputs, options);
  EXPECT_NEAR(report.before.sink_mass.mean,
              survey_sink(made.model, made.inputs).mean.mean().item<double>(), 1e-6);
  EXPECT_GT(report.before.sink_mass.mean, 0.4);
  EXPECT_LT(report.after.sink_mass.mean, 1.5 * report.null);
  EXPECT_GT(report.before.ratio.mean, 10.0 * report.after.ratio.mean);
  EXPECT_LT(report.change.sink_mass.high, 0.0);
  ASSERT_EQ(report.before.rounded.size(), 4U);
  // One scale for a sequence must hold its massive activation: later tokens lose by it.
  EXPECT_GT(report.before.rounded[1].others_error.mean,
            5.0 * report.after.rounded[1].others_error.mean);

  const auto out = scratch_dir() / "edited";
  write_edited(edited, made.checkpoint, out);
  const Model again = load(out, {.threads = 1});
  EXPECT_TRUE(at::equal(run(again, made.inputs.tokens).logits,
                        run(edited.model, made.inputs.tokens).logits));
  EXPECT_THROW(write_edited(edited, made.checkpoint, out), Error);
}

TEST(Edit, AKnockOutIsMeasuredAndNotWritten) {
  const PlantedModel made = planted_model();
  const EditOptions options{.knock_out = "m0", .bits = {}};
  const EditedModel edited = edit_weights(made.model, options);
  EXPECT_TRUE(edited.changed.empty());
  const EditReport report = measure_edit(made.model, edited, made.inputs, options);
  EXPECT_LT(report.after.sink_mass.mean, 0.5 * report.before.sink_mass.mean);
  EXPECT_TRUE(report.before.rounded.empty());
  const auto out = scratch_dir() / "none";
  EXPECT_THROW(write_edited(edited, made.checkpoint, out), Error);
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Edit, SequencesOfSeveralLengthsAreMeasuredEachAsItIs) {
  const PlantedModel made = planted_model();
  const auto lists = random_ids(4, 20, made.model.config().vocab, nullptr, 7);
  auto cut = lists;
  cut[1].resize(12);
  const EditOptions options{.window = 4, .keep = 1, .bits = {4}};
  const EditedModel edited = edit_weights(made.model, options);
  const auto report_of = [&](std::vector<std::vector<std::int64_t>> some) {
    return measure_edit(made.model, edited, make_inputs(std::move(some), 20, {}, "random"),
                        options);
  };
  const EditReport all = report_of(cut);
  double loss = 0.0;
  double error = 0.0;
  for (const auto& one : cut) {
    const EditReport alone = report_of({one});
    loss += alone.after.loss.mean / 4.0;
    error += alone.after.rounded[1].others_error.mean / 4.0;
  }
  // Batches of float32 round alike up to the order of products.
  EXPECT_NEAR(all.after.loss.mean, loss, 1e-4);
  EXPECT_NEAR(all.after.rounded[1].others_error.mean, error, 1e-4);
}

TEST(Edit, WrongOptionsAreRefused) {
  const ModelConfig config = random_config(0);
  const at::Tensor direction = some_direction(config.d_model);
  EXPECT_THROW(check({.direction = at::ones({3})}, config), Error);
  EXPECT_THROW(check({.direction = at::zeros({config.d_model})}, config), Error);
  EXPECT_THROW(check({.direction = direction, .writers = "m99"}, config), Error);
  EXPECT_THROW(check({.writers = "m0"}, config), Error);
  EXPECT_THROW(check({.silence = "h1"}, config), Error);
  EXPECT_THROW(check({.silence = "m0+"}, config), Error);
  EXPECT_THROW(check({.keep = 1}, config), Error);
  EXPECT_THROW(check({.window = -1}, config), Error);
  EXPECT_THROW(check({.bits = {1}}, config), Error);
  EXPECT_THROW(check({.epsilon = 1.0}, config), Error);
  EXPECT_THROW(check({.sink_slot = std::nan("")}, config), Error);
}

}  // namespace
}  // namespace plumb::test
