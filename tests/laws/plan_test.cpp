// Plans that do not fit are refused before any arithmetic, with the site named.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

const ModelConfig config = random_config(2);

void expect_refused(const Plan& plan, const std::string& words,
                    ErrorKind kind = ErrorKind::bad_argument) {
  const Model model = toy_model(config, 2);
  try {
    plumb::run(model, toy_tokens(config, 2, 5, 1), plan);
    ADD_FAILURE() << "accepted; expected " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(PlanCheck, RefusesSitesThatDoNotExist) {
  expect_refused({.record = {Site{Part::z, 99}}}, "L99.z");
  expect_refused({.record = {Site{Part::z, -1}}}, "L-1.z");
  expect_refused({.record = {Site{Part::pos_embed}}}, "pos_embed");
  expect_refused({.record = {{Site{Part::z, 0}, Slice{.heads = {99}}}}}, "L0.z");
  expect_refused({.record = {{Site{Part::attn_out, 0}, Slice{.heads = {0}}}}}, "no heads");
  expect_refused({.record = {{Site{Part::z, 0}, Slice{.positions = {1, 1}}}}}, "twice");
  expect_refused({.record = {Site{Part::z, 0}, Site{Part::z, 0}}}, "recorded twice");
}

TEST(PlanCheck, RefusesSitesThatAreNeverReached) {
  expect_refused({.record = {Site{Part::z, 1}}, .until = 1}, "never reached");
  expect_refused({.record = {Site{Part::logits}}, .until = 1}, "never reached");
  Plan restarted{.interventions = {{.site = {Part::z, 0}}}};
  restarted.restart =
      Restart{.layer = 1, .resid_pre = at::zeros({2, 5, config.d_model}, at::kDouble)};
  expect_refused(restarted, "never reached");
}

TEST(PlanCheck, RefusesEditsThatDoNotFit) {
  expect_refused({.interventions = {{.site = {Part::z, 0}, .edit = Put{at::zeros({3})}}}}, "L0.z",
                 ErrorKind::bad_shape);
  expect_refused({.interventions = {{.site = {Part::z, 0}, .edit = Put{}}}}, "L0.z",
                 ErrorKind::bad_shape);
  expect_refused(
      {.interventions = {{.site = {Part::z, 0}, .edit = Add{at::zeros({1}, at::kLong)}}}},
      "floating", ErrorKind::bad_shape);
  expect_refused({.interventions = {{.site = {Part::z, 0}, .edit = Hide{}}}}, "L0.scores");
  expect_refused({.interventions = {{.site = {Part::z, 0}, .edit = Custom{"mine", {}}}}}, "mine");
  expect_refused({.interventions = {{.site = {Part::resid_pre, 0},
                                     .edit = ProjectOut{at::zeros({config.d_model})}}}},
                 "not all zero", ErrorKind::bad_shape);
  expect_refused(
      {.interventions = {{.site = {Part::z, 0},
                          .edit = Custom{"mine", [](const at::Tensor& t) { return t.sum(); }}}}},
      "mine", ErrorKind::bad_shape);
}

TEST(PlanCheck, RefusesTokensOutsideTheVocabulary) {
  const Model model = toy_model(config, 2);
  EXPECT_THROW(plumb::run(model, Tokens{.ids = at::full({1, 3}, config.vocab, at::kLong)}), Error);
  EXPECT_THROW(plumb::run(model, Tokens{.ids = at::full({1, 3}, -1, at::kLong)}), Error);
  EXPECT_THROW(plumb::run(model, Tokens{.ids = at::zeros({3}, at::kLong)}), Error);
  EXPECT_THROW(plumb::run(model, Tokens{}), Error);
  EXPECT_THROW(plumb::run(model, Tokens{.ids = at::zeros({1, 3}, at::kLong),
                                        .lengths = at::full({1}, 4, at::kLong)}),
               Error);
  EXPECT_THROW(plumb::run(model, Tokens{.ids = at::zeros({1, 3}, at::kLong), .positions = {1}}),
               Error);
}

TEST(PlanCheck, RefusesMorePositionsThanALearnedTableHas) {
  const ModelConfig learned = random_config(1);
  const Model model = toy_model(learned, 1);
  EXPECT_THROW(plumb::run(model, toy_tokens(learned, 1, learned.context + 1, 1)), Error);
}

}  // namespace
}  // namespace plumb::test
