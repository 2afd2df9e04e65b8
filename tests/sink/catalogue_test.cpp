// The experiments of the catalogue: laws that hold exactly, and what is true of planted circuits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plumb/error.h"
#include "plumb/p0_catalogue.h"
#include "plumb/p0_general.h"
#include "plumb/plant.h"
#include "support/token_lists.h"

namespace plumb {
namespace {

constexpr std::int64_t sequences = 8;
constexpr std::int64_t length = 40;
constexpr std::int64_t masked = 16;

constexpr double all_of_it = 0.8;  // share removed that counts as the sink's removal
constexpr double none_of_it = 0.1;
constexpr double rounding = 1e-9;  // of float64 runs that compute the same

P0Experiments experiments(const PlantOptions& options, const std::string& identifiers) {
  const Planted planted = plant(options);
  const Model model = to_model(planted, {.dtype = at::kDouble});
  P0Inputs inputs;
  inputs.plain = make_inputs(test::as_lists(plant_tokens(planted, 5, sequences, length)), length,
                             {}, "tokens");
  P0Options p0;
  p0.causal_sequences = sequences;
  p0.causal_length = length;
  p0.self_mask_position = masked;
  return run_p0_experiments(model, inputs, parse_p0_identifiers(identifiers), p0);
}

P0Experiment experiment(const std::string& identifier, const PlantOptions& options = {}) {
  const P0Experiments found = experiments(options, identifier);
  EXPECT_EQ(found.experiments.size(), 1U);
  EXPECT_EQ(found.experiments.front().not_run, "");
  return found.experiments.front();
}

double removed(const P0Experiment& found, std::string_view name, std::string_view role = "edit") {
  return found.at(name, role).removed.mean;
}

double drawn(const P0Experiment& found, std::string_view name, std::string_view role = "edit") {
  return found.at(name, role).effect.value.mean;
}

TEST(Catalogue, ParsesIdentifiersAndNamesOnce) {
  EXPECT_EQ(parse_p0_identifiers("B3, mask_to_self,B3"), (std::vector<std::string>{"B3", "C7"}));
  EXPECT_EQ(parse_p0_identifiers("all").size(), p0_catalogue().size());
  EXPECT_THROW(parse_p0_identifiers("B99"), Error);
  EXPECT_THROW(parse_p0_identifiers(""), Error);
}

TEST(Catalogue, EveryExperimentSaysSomethingOfEveryKindOfModel) {
  PlantOptions mixture{.experts = 4};
  PlantOptions table{.route = Route::learned_position};
  PlantOptions wide{.d_model = 160, .norm = Norm::layer, .positions = Positions::alibi};
  PlantOptions two{.layers = 7, .second = 4};
  for (const PlantOptions& options : {mixture, table, wide, two}) {
    const P0Experiments found = experiments(options, "all");
    for (const auto& one : found.experiments) {
      EXPECT_TRUE(!one.not_run.empty() || !one.readings.empty() || !one.arrays.empty() ||
                  !one.findings.empty())
          << one.id;
      for (const auto& reading : one.readings) {
        EXPECT_TRUE(std::isfinite(reading.effect.value.mean)) << one.id << reading.effect.name;
        EXPECT_LE(reading.effect.value.low, reading.effect.value.mean + rounding);
        EXPECT_GE(reading.effect.value.high, reading.effect.value.mean - rounding);
        if (reading.kl) {
          EXPECT_GE(reading.kl->mean, -rounding) << one.id << reading.effect.name;
        }
      }
      for (const auto& array : one.arrays) {
        EXPECT_EQ(static_cast<std::size_t>(array.values.dim()), array.axes.size())
            << one.id << " " << array.name;
      }
    }
  }
}

TEST(Catalogue, WithoutAWaveThereIsNothingToEdit) {
  const P0Experiments found = experiments({.route = Route::none}, "A1,B3");
  EXPECT_EQ(found.experiments[0].not_run, "");
  EXPECT_NE(found.experiments[1].not_run, "");
}

TEST(ContentSwap, AnotherSequencesPositionZeroWillDoAndAnotherPositionsStateWillNot) {
  const P0Experiment found = experiment("B1");
  EXPECT_LT(removed(found, "X[2]: direction of the same position of another sequence"), none_of_it);
  EXPECT_GT(removed(found, "X[2]: direction of another position t > 0"), all_of_it);
  EXPECT_LT(removed(found, "X[2]: direction of another position t > 0", "other position"),
            none_of_it);
}

TEST(NormClamp, IsHiddenFromTheLayerAtHand) {
  const P0Experiment found = experiment("B2");
  const P0Reading& clamped = found.at("norm clamped entering layer 2");
  const P0Reading& elsewhere = found.at("norm clamped entering layer 2", "other position");
  // U11: up to the norm's epsilon. Clamping another position leaves column 0 at layer 2 as it was.
  EXPECT_NEAR(clamped.by_layer[2].mean, elsewhere.by_layer[2].mean, 1e-4);
  EXPECT_GT(removed(found, "norm clamped and sink direction projected out at the onset"),
            all_of_it);
}

TEST(DirectionRemoval, RemovesTheSinkAndItsControlsDoNot) {
  const P0Experiment found = experiment("B3");
  EXPECT_GT(removed(found, "sink direction projected out"), all_of_it);
  EXPECT_LT(removed(found, "sink direction projected out", "other position"), none_of_it);
  EXPECT_LT(removed(found, "sink direction projected out", "random position"), none_of_it);
  EXPECT_LT(removed(found, "a random direction projected out", "random vector"), none_of_it);
  EXPECT_GT(removed(found, "mean state of t > 0"), all_of_it);
  EXPECT_GT(found.at("sink direction projected out").kl->mean, 0.0);
}

TEST(Knockout, NamesThePlantedComponents) {
  const P0Experiment found = experiment("B4");
  const at::Tensor table = found.array("removed").values;  // a0, m0, a1, m1
  EXPECT_EQ(table.sizes().vec(), (std::vector<std::int64_t>{4, 3, 3}));
  for (const std::int64_t planted : {0, 1, 3})
    EXPECT_GT(table[planted].select(1, 0).min().item<double>(), all_of_it) << planted;
  EXPECT_LT(table[2].select(1, 0).max().item<double>(), none_of_it);
  EXPECT_LT(removed(found, "a0 by its mean over t > 0", "other position"), none_of_it);
}

TEST(PatchPaths, RestoreTheSinkBehindAPrefixAndCutItsChain) {
  const P0Experiment found = experiment("B5");
  const at::Tensor recovered = found.array("recovered").values.select(1, 0);
  EXPECT_GT(recovered[0].item<double>(), 0.3);  // a0 alone: two sinks then share the attention
  EXPECT_LT(std::abs(recovered[2].item<double>()), none_of_it);  // a1
  EXPECT_GT(recovered[3].item<double>(), 0.3);                   // m1
  const at::Tensor lost = found.array("paths").values;           // a0, m0, a1, m1 -> ..., read-out
  EXPECT_GT(lost[0][1].item<double>(), all_of_it);               // a0 -> m0
  EXPECT_GT(lost[1][3].item<double>(), all_of_it);               // m0 -> m1
  EXPECT_GT(lost[3][4].item<double>(), all_of_it);               // m1 -> the state
  EXPECT_LT(lost[2][4].item<double>(), none_of_it);
  EXPECT_GT(removed(found, "m1 to the wave's keys cut"), all_of_it);
  EXPECT_LT(removed(found, "m1 to the wave's keys cut", "random vector"), 0.9);
}

TEST(PositionIds, DoNotMatterToAPositionalSinkAndMoveALearnedOne) {
  const P0Experiment rotary = experiment("B6");
  for (const char* name : {"id of position 0 moved away", "a gap behind position 0",
                           "all ids redrawn in order, with gaps"})
    EXPECT_LT(std::abs(removed(rotary, name)), none_of_it) << name;
  const P0Experiment learned = experiment("B6", {.route = Route::learned_position});
  EXPECT_GT(removed(learned, "ids of position 0 and 16 exchanged"), all_of_it);
  EXPECT_GT(drawn(learned, "ids of position 0 and 16 exchanged", "other position"), 0.3);
}

TEST(Transplant, PositionZerosStateMakesASinkElsewhere) {
  const P0Experiment found = experiment("B7");
  EXPECT_EQ(found.at("position 0's state at the onset").effect.outcome, "sink made");
  EXPECT_EQ(found.at("position 0's state of another sequence").effect.outcome, "sink made");
  EXPECT_EQ(found.at("the state of another position t > 0").effect.outcome, "no sink");
  EXPECT_EQ(found.at("position 0's state at the onset", "random vector").effect.outcome, "no sink");
  EXPECT_GT(removed(found, "the state of t = 16"), all_of_it);
}

TEST(VarianceMatch, AFactorOfOneChangesNothing) {
  const P0Experiment found = experiment("B8");
  const P0Reading& same = found.at("spread of a0 x 1");
  EXPECT_LT(std::abs(same.effect.loss_change->mean), rounding);
  EXPECT_LT(same.kl->mean, rounding);
  EXPECT_EQ(found.array("spread").values.size(0), length);
}

TEST(ValueAblation, ThePlantedSinkIsReadByItsKeysAndHasNoValue) {
  const P0Experiment found = experiment("B9");
  EXPECT_LT(std::abs(removed(found, "values zeroed, keys kept")), none_of_it);
  EXPECT_GT(removed(found, "keys := mean over t > 0, values kept"), all_of_it);
  EXPECT_LT(removed(found, "keys := mean over t > 0, values kept", "other position"), none_of_it);
}

TEST(MaskScan, TheCausalMaskMakesThePlantedSink) {
  const P0Experiment found = experiment("B10");
  EXPECT_GT(removed(found, "no causal mask"), all_of_it);  // in the layers before the wave
  int windows = 0;
  for (const auto& reading : found.readings) {
    if (reading.effect.name != "window of 2" || reading.effect.where != "all layers") continue;
    EXPECT_GT(reading.removed.mean, all_of_it);  // nobody but the second token sees position 0
    ++windows;
  }
  EXPECT_EQ(windows, 1);
}

TEST(ProbeIdentity, ReadsTheTokenOffItsEmbedding) {
  const P0Experiment found = experiment("B11");
  const at::Tensor table = found.array("probe").values;
  EXPECT_GT(table[0][0].item<double>(), 0.95);
  EXPECT_GT(table[0][1].item<double>(), 4.0);  // of log2 64 bits
}

TEST(ConeAnisotropy, ParticipationLiesBetweenOneAndTheDimensionsThereAre) {
  const at::Tensor table = experiment("B12").array("values").values;
  EXPECT_GE(table.select(2, 0).min().item<double>(), 1.0 - rounding);
  EXPECT_LE((table.select(2, 0) - table.select(2, 1)).max().item<double>(), rounding);
}

TEST(QkReading, TheBareDirectionsKeyBringsTheSinkBack) {
  const P0Experiment found = experiment("C6");
  EXPECT_GT(removed(found, "state of another position at the onset", "knocked out"), all_of_it);
  EXPECT_LT(removed(found, "the same, keys of position 0 := those of the bare direction"), 0.2);
  EXPECT_GT(
      removed(found, "the same, keys of position 0 := random ones of that size", "random vector"),
      0.5);
  const at::Tensor table = found.array("reading").values;
  EXPECT_LE(table.select(2, 7).max().item<double>(), 1.0 + rounding);  // Jensen
}

TEST(MaskToSelf, TheDetectingBlockIsEnoughAndOtherKeysAreNot) {
  const P0Experiment found = experiment("C7");
  EXPECT_EQ(found.at("layers {0}").effect.outcome, "sink made");
  EXPECT_EQ(found.at("layers {1}").effect.outcome, "no sink");
  EXPECT_EQ(found.at("layers {0}", "sees one other key").effect.outcome, "no sink");
}

TEST(Deself, CopiesOfItsOwnValueChangeNothingAndOtherValuesRemoveThePlantedSink) {
  const P0Experiment found = experiment("C8");
  EXPECT_LT(found.at("8 copies of its own value mixed in, block 0", "copies").kl->mean, rounding);
  EXPECT_GT(removed(found, "8 extra values mixed in, block 0"), all_of_it);
  EXPECT_GE(removed(found, "8 extra values mixed in, block 0"),
            removed(found, "1 extra values mixed in, block 0") - none_of_it);
}

TEST(Factorial, TheUneditedCellIsTheCleanRun) {
  const P0Experiment found = experiment("C9");
  const P0Reading& own = found.readings.front();
  EXPECT_EQ(own.effect.name, "norm own, direction own, variance own");
  EXPECT_LT(own.kl->mean, 1e-6);  // made of parts and put together again
  EXPECT_EQ(found.array("main_effects").values.sizes().vec(), (std::vector<std::int64_t>{2, 3, 3}));
}

TEST(KvTransplant, KeysBringTheSinkBackAndValuesDoNot) {
  const P0Experiment found = experiment("C10");
  EXPECT_GT(removed(found, "nothing put back", "knocked out"), all_of_it);
  EXPECT_LT(removed(found, "keys alone put back"), 0.2);
  EXPECT_GT(removed(found, "values alone put back"), all_of_it);
}

TEST(Repetition, EqualTokensEverywhereLeaveNoSink) {
  const P0Experiment found = experiment("C11");
  const at::Tensor drawn = found.array("drawn_when_all_equal").values;
  EXPECT_LT(drawn[0].item<double>(), 0.25);
  // Two equal first tokens share the sink.
  const at::Tensor repeats = found.array("drawn_by_repeats").values;
  EXPECT_LT(repeats[1][0].item<double>(), repeats[0][0].item<double>());
  EXPECT_GT(repeats[1][1].item<double>(), 3.0 * repeats[0][1].item<double>());
}

TEST(Moe, TheWritingExpertIsFoundAndNeeded) {
  const P0Experiment found = experiment("C14", {.experts = 4});
  const at::Tensor router = found.array("m1_router").values;
  const auto top = found.array("m1_ledger").values.argmax().item<std::int64_t>();
  EXPECT_GT(router[0][top].item<double>(), 0.9);
  EXPECT_LT(router[1][top].item<double>(), 0.1);
  EXPECT_GT(removed(found, "m1 without expert " + std::to_string(top)), all_of_it);
  EXPECT_LT(removed(found, "m1 without expert " + std::to_string(top), "other position"),
            none_of_it);
}

TEST(ClosedSystem, IsTheVocabularySweep) {
  const P0Experiment found = experiment("C2");
  const at::Tensor table = found.array("vocabulary").values;
  EXPECT_EQ(table.size(0), 257);
  EXPECT_GT(table.select(1, 1).mean().item<double>(), 0.95);
}

TEST(NormSensitivity, FollowsTheFirstOrder) {
  const P0Experiment found = experiment("A11");
  const at::Tensor moved = found.array("moved").values;
  const at::Tensor expected = found.array("expected").values;
  EXPECT_LT(((moved - expected).abs() / expected).max().item<double>(), 0.05);
  EXPECT_LT(moved.select(1, 0).mean().item<double>(),
            0.5 * moved.narrow(1, 1, length - 1).mean().item<double>());
}

TEST(MeanAttentionMap, RowsSumToOne) {
  const at::Tensor map = experiment("A12").array("map").values;
  EXPECT_LT((map.sum(-1) - 1.0).abs().max().item<double>(), 1e-12);
}

TEST(Cone, PositionZeroHasTheLargestConcentration) {
  const P0Experiment found = experiment("A10");
  const at::Tensor p2 = found.array("concentration").values;
  EXPECT_LT((p2.select(2, 0) - 1.0).abs().max().item<double>(), 1e-12);  // U1
  EXPECT_LE(p2.max().item<double>(), 1.0 + 1e-12);
  const at::Tensor gap = found.array("predicted").values.select(2, 0) - 1.0;
  EXPECT_LT(gap.abs().max().item<double>(), 1e-9);
}

TEST(FrontDepth, IsOneLessTheRate) {  // U13, U9
  const P0Experiments found = experiments({}, "C13,A1");
  const double depth = found.experiments[0].array("front_depth").values.item<double>();
  const at::Tensor from = found.experiments[1].array("rate_from").values;
  EXPECT_NEAR(depth, 1.0 - from[0].item<double>(), 1e-6);
}

TEST(Rivals, TheSinkOfAPlantedMoverIsSeenToMove) {
  const P0Experiment found = experiment("C17", {.route = Route::moved});
  EXPECT_EQ(found.at("m1 by mean").effect.outcome, "moved to t = 1");
  EXPECT_EQ(experiment("C17").at("m1 by mean").effect.outcome, "removed");
}

TEST(Architecture, SeesTheMassOfLearnedSinkLogits) {
  const P0Experiment found = experiment("C15", {.route = Route::sink_logits});
  EXPECT_GT(found.array("sink_mass").values.max().item<double>(), 0.5);
}

P0Summary summary(Verdict verdict, Holds fourth) {
  P0Summary made{.model = "m", .verdict = verdict};
  for (int i = 1; i <= 6; ++i)
    made.rungs.emplace_back("L" + std::to_string(i), i == 4 ? fourth : Holds::yes);
  return made;
}

TEST(Generality, NeedsThreeModelsAndCountsWhatHolds) {
  const P0Summary good = summary(Verdict::positional, Holds::yes);
  EXPECT_EQ(generalise({good, good}).general.holds, Holds::untested);
  // Wilson's interval of 4 of 4 begins at 0.51, of 3 of 3 at 0.44.
  EXPECT_EQ(generalise({good, good, good}).general.holds, Holds::no);
  const P0Generality four = generalise({good, good, good, good});
  EXPECT_EQ(four.general.holds, Holds::yes);
  EXPECT_NEAR(four.general.low, 0.5101, 1e-4);
  const P0Generality mixed = generalise({good, good, good, summary(Verdict::positional, Holds::no),
                                         summary(Verdict::token, Holds::untested)});
  EXPECT_EQ(mixed.general.holds, Holds::no);
  EXPECT_DOUBLE_EQ(mixed.general.value, 0.6);
  EXPECT_DOUBLE_EQ(mixed.rungs[3].value, 0.75);
  EXPECT_THROW(generalise({}), Error);
}

TEST(Thresholds, AreSetByNameAndRefusedOtherwise) {
  P0Options options;
  set_threshold(options, "necessary", 0.95);
  EXPECT_DOUBLE_EQ(options.necessary, 0.95);
  EXPECT_THROW(set_threshold(options, "necesary", 0.9), Error);
  EXPECT_EQ(p0_thresholds().size(), 13U);
}

}  // namespace
}  // namespace plumb
