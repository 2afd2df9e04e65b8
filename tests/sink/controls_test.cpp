// Whether an edit does more than a random change of its size: a planted component that takes part
// in nothing, but writes so much elsewhere that its value from there drowns the mark of position 0.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plumb/p0.h"
#include "plumb/plant.h"
#include "plumb/run.h"
#include "sink/p0_contrast.h"
#include "sink/p0_experiments.h"
#include "sink/p0_ladder.h"
#include "sink/p0_path_graph.h"
#include "support/token_lists.h"

namespace plumb {
namespace {

constexpr std::int64_t sequences = 16;
constexpr std::int64_t length = 40;
constexpr double loud = 240.0;      // thirty times as long as the stream at the writer
constexpr double firing = 8.0;      // argument of the activation: on at t > 0, off at position 0
constexpr double loses_much = 0.3;  // share of what all paths carry
const Component bystander{.layer = 1, .mlp = true};

// What the bystander reads.
struct Read {
  at::Tensor first = {};   // [256, d_model] of tokens that stand first, normed
  at::Tensor others = {};  // [n, d_model] of all others, normed
  double length = 0;       // of these before the norm
};

Read read_by_bystander(const Planted& planted) {
  const Model model = to_model(planted);
  const Site site{Part::mlp_in, bystander.layer};
  Plan plan{.record = {site}, .logits = Logits::none};
  plan.until = bystander.layer + 1;
  const auto stream = [&](const at::Tensor& ids) {
    return run(model, Tokens{.ids = ids}, plan).cache.at(site).to(at::kDouble);
  };
  const auto normed = [&](const at::Tensor& x) {
    return x * (x.square().mean(-1, true) + planted.config.norm_eps).rsqrt() *
           planted.weights.at({Weight::ln2, bystander.layer}).to(at::kDouble);
  };
  const at::Tensor others =
      stream(plant_tokens(planted, 7, sequences, length)).narrow(1, 1, length - 1).flatten(0, 1);
  return {.first = normed(stream(at::arange(256, at::kLong).unsqueeze(1)).select(1, 0)),
          .others = normed(others),
          .length = others.norm(2, -1).mean().item<double>()};
}

// The positional circuit a0, m0, m2, and m1 beside it: a neuron of m1 writes a vector of length
// `loud`, which nobody reads, at every position but the first. The queries that this makes shorter
// are made longer again.
Planted drowning(std::uint64_t seed) {
  Planted planted = plant({.seed = seed, .write = 2, .d_model = 160});
  const Read read = read_by_bystander(planted);
  const at::Tensor means = at::stack({read.first.mean(0), read.others.mean(0)});  // [2, d_model]
  const at::Tensor inverse = means.matmul(means.t()).inverse();
  const auto with_products = [&](double at_first, double at_others) {
    const at::Tensor wanted = at::tensor({at_first, at_others}, at::kDouble);
    return inverse.matmul(wanted).matmul(means).to(at::kFloat);
  };
  planted.weights.at({Weight::gate, bystander.layer})[0].copy_(with_products(-firing, firing));
  planted.weights.at({Weight::up, bystander.layer})[0].copy_(with_products(1.0, 1.0));
  // Outside of what the embeddings, and with them all readers, span.
  const at::Tensor embed = planted.weights.at({Weight::embed, 0}).to(at::kDouble);
  const at::Tensor ends = std::get<2>(at::linalg_svd(embed, true));
  at::Tensor down = planted.weights.at({Weight::down, bystander.layer});
  down.select(1, 0).copy_((ends[ends.size(0) - 1] * loud / firing).to(at::kFloat));
  const double longer = std::hypot(loud, read.length) / read.length;
  for (int layer = 2; layer < planted.config.layers; ++layer)
    planted.weights.at({Weight::q, layer}).mul_(longer);
  return planted;
}

class Drowned : public testing::Test {
 protected:
  Drowned()
      : planted(drowning(3)),
        model(to_model(planted)),
        inputs(make_inputs(test::as_lists(plant_tokens(planted, 5, sequences, length)), length, {},
                           "tokens")),
        options{.causal_sequences = sequences, .causal_length = length, .self_mask_position = 12},
        survey(survey_sink(model, inputs)),
        context(model, inputs, options, survey.waves, survey, quiet) {
    report.wave = survey.waves.at(0);
    report.clean = context.read(0, context.clean, 0, "nothing", "clean", "P0");
    const int until = report.wave.last + 1;
    for (const auto component : components_of_blocks(0, report.wave.onset)) {
      for (const auto kind : {Ablation::mean, Ablation::resample}) {
        const Outcome outcome = context.intervene(context.replace({component}, kind), until);
        report.knockouts.push_back(
            context.read(0, outcome, 0, to_string(component), to_string(kind), "P0"));
      }
    }
  }

  const Effect& knocked_out(const std::string& name) const {
    return *std::ranges::find(report.knockouts, name, &Effect::name);
  }

  Planted planted;
  Model model;
  Inputs inputs;
  P0Options options;
  SinkSurvey survey;
  Progress quiet = {};
  P0Context context;
  WaveReport report = {};
};

TEST_F(Drowned, AnEditThatActsByItsSizeIsNotNecessary) {
  ASSERT_EQ(report.wave.onset, 3);
  ASSERT_GE(knocked_out("m1").removed, options.necessary) << "the mean does not drown the mark";
  EXPECT_EQ(choose_by_controls(context, 0, {{bystander}}, report), std::vector{bystander});
  const Necessity found = necessity_of(options, report, "m1");
  ASSERT_NE(found.contrast, nullptr);
  EXPECT_GT(found.contrast->by_control, 1.0 / options.control_ratio);
  EXPECT_FALSE(found.contrast->exceeds);
  EXPECT_LT(found.elsewhere, options.control) << "the edit elsewhere would not have told";
  EXPECT_FALSE(found.holds);

  climb(context, 0, {.plain = &survey}, report);
  const Rung& necessary = report.ladder.at(3);
  EXPECT_EQ(necessary.level, "L4");
  EXPECT_EQ(necessary.holds, Holds::no);
  EXPECT_NE(necessary.claim.find("beyond chance"), std::string::npos) << necessary.claim;
}

TEST_F(Drowned, ASetThatDoesMoreThanItsSizeIsChosenInstead) {
  const Component detector{.layer = 0, .mlp = true};
  EXPECT_EQ(choose_by_controls(context, 0, {{bystander}, {detector}}, report),
            std::vector{detector});
  EXPECT_EQ(report.controls.front().name, "m0");
  const Necessity found = necessity_of(options, report, "m0");
  EXPECT_TRUE(found.holds);
  ASSERT_NE(found.contrast, nullptr);
  EXPECT_GT(found.contrast->difference.low, 0.0);
  // What was tried before it is told too.
  EXPECT_TRUE(std::ranges::any_of(report.contrasts, [](const Contrast& beside) {
    return beside.name == "m1 by mean" && !beside.exceeds;
  }));
}

TEST_F(Drowned, ALinkIsHeldAgainstARandomChangeOfItsSize) {
  PathGraph graph(context, 0);
  graph.prune([](double) {});
  const Component writer{.layer = 2, .mlp = true};
  const auto kept = graph.kept();
  const auto has = [&](const PathGraph::Edge& edge) {
    return std::ranges::find(kept, edge) != kept.end();
  };
  const PathGraph::Edge drowned{bystander, writer};
  const PathGraph::Edge written{writer, graph.read_out()};
  ASSERT_TRUE(has(drowned)) << "by its mean over t > 0 the bystander drowns the flag";
  ASSERT_TRUE(has(written));
  const Contrast by_size = check_link(context, 0, graph, drowned);
  EXPECT_GT(by_size.effect, loses_much);
  EXPECT_FALSE(by_size.exceeds) << by_size.effect << " " << by_size.by_control;
  const Contrast by_content = check_link(context, 0, graph, written);
  EXPECT_GT(by_content.effect, loses_much);
  EXPECT_TRUE(by_content.exceeds) << by_content.effect << " " << by_content.by_control;
}

TEST_F(Drowned, ARandomChangeHasTheSizeOfTheEdit) {
  const auto& value = context.values.at(bystander);
  Random random(3);
  const at::Tensor change = value.mean - value.own;
  const at::Tensor drawn = random_of_size(change, random);
  EXPECT_EQ(drawn.sizes(), change.sizes());
  EXPECT_LT((drawn.norm(2, -1) / change.norm(2, -1) - 1.0).abs().max().item<double>(), 1e-5);
  EXPECT_GT(change.norm(2, -1).mean().item<double>(), 0.5 * loud);
}

}  // namespace
}  // namespace plumb
