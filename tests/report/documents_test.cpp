// JSON, text and archives built from results filled in by hand.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "plumb/report.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_svg.h"
#include "plumb/report_text.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

using Json = nlohmann::json;

constexpr int kLayers = 3;
constexpr int kHeads = 2;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

RunInfo run_info() {
  RunInfo run;
  run.command = "p0";
  run.command_line = "plumb p0 toy";
  run.model = "toy";
  std::promise<std::string> hash;
  hash.set_value(std::string(64, 'a'));
  run.hash = hash.get_future();
  run.config.family = "llama";
  run.config.layers = kLayers;
  run.config.heads = kHeads;
  run.config.kv_heads = 1;
  run.config.d_model = 4;
  run.config.vocab = 10;
  run.dtype = "f32";
  run.device = "cpu";
  run.threads = 2;
  run.seed = std::numeric_limits<std::uint64_t>::max();
  run.files = {{"archive", "out/p0.h5"}};
  return run;
}

SinkSurvey survey() {
  SinkSurvey found;
  found.inputs_kind = "text";
  found.inputs_sha256 = std::string(64, 'b');
  found.sequences = 2;
  found.length = 5;
  found.null = 0.4;
  found.sink = at::full({2, kLayers, kHeads}, 0.5, at::kDouble);
  found.mean = at::full({kLayers, kHeads}, 0.5, at::kDouble);
  found.rate = at::tensor({0.0, 0.5, 1.0}, at::kDouble);
  found.layer_mean = at::tensor({0.1, 0.5, 0.9}, at::kDouble);
  found.p0_norm = at::arange(1.0, 2.0 * kLayers + 2.0, at::kDouble);
  found.median_norm = at::ones({2 * kLayers + 1}, at::kDouble);
  found.p0_cosine = at::full({2 * kLayers + 1}, kNan, at::kDouble);
  found.loss = {3.5, 3.25, 3.75};
  found.waves = {{.onset = 1, .last = 2, .peak = 2, .mean = 0.7}};
  found.steps = {{.site = "m0", .layer = 0, .mlp = true, .ratio = 23, .median_ratio = 15}};
  found.secondary = {{.layer = 1, .token = 7, .count = 12, .sink = 0.3, .norm_ratio = 5}};
  return found;
}

Effect effect(const std::string& name, const std::string& kind, double removed) {
  Effect made;
  made.name = name;
  made.kind = kind;
  made.where = "P0";
  made.sink = {0.1, kNan};
  made.other_sink = {0.2, kNan};
  made.value = {0.25, 0.2, 0.3};
  made.removed = removed;
  made.norm = {750.0, 700.0, 800.0};
  made.outcome = removed > 0.5 ? "removed" : "kept";
  return made;
}

P0Report p0_report() {
  P0Report found;
  found.complete = true;
  found.verdict = Verdict::positional;
  found.surveys = {survey()};
  found.survey_names = {"text, no BOS"};
  found.notes = {"a note"};
  WaveReport wave;
  wave.wave = found.surveys.front().waves.front();
  wave.verdict = Verdict::positional;
  wave.blocks = {0, 1};
  wave.writers = {"m0", "m1"};
  wave.upstream = {"a0"};
  wave.erasers = {"m2"};
  wave.backups = {{"m0", "m1"}};
  wave.direction = at::tensor({1.0, 0.0, 0.0, 0.0}, at::kFloat);
  wave.ledger.total = 200.0;
  wave.ledger.components = {{.name = "input", .p0 = 1.0, .others = 0.5},
                            {.name = "m1", .p0 = 199.0, .others = -3.0}};
  wave.clean = effect("", "", 0.0);
  wave.knockouts = {effect("m1", "zero", 0.24), effect("m1", "mean", 0.94),
                    effect("a0", "mean", kNan)};
  wave.sets = {effect("m0+m1", "mean", 1.0)};
  wave.sets.front().loss_change = Estimate{0.865, 0.5, 1.3};
  wave.self_masks = {{.layers = {0, 1},
                      .sink = {0.2, 0.1, 0.3},
                      .norm = {700, 1, 2},
                      .spiking = 1,
                      .sufficient = true}};
  wave.smallest_mask = {0, 1};
  wave.ladder = {{.level = "L1",
                  .name = "present",
                  .claim = "mean sink",
                  .value = 0.7,
                  .null = 0.4,
                  .low = 0.6,
                  .high = 0.8,
                  .holds = Holds::yes},
                 {.level = "L9", .name = "general", .claim = "one model"}};
  wave.graph.doubtful = {
      {.name = "m0->m1", .score = {0.03, 0.01, 0.05}, .elsewhere = {0.004, -0.01, 0.02}}};
  found.waves = {wave};
  found.circuit.convention = "share of the projection";
  found.circuit.nodes = {{.name = "input@0", .kind = "input"},
                         {.name = "sink[1-2]", .kind = "sink", .layer = 1, .score = 1.0}};
  found.circuit.edges = {{.from = "input@0",
                          .to = "sink[1-2]",
                          .score = 0.5,
                          .kind = "or",
                          .interval = ScoreInterval{0.25, 0.75}}};
  return found;
}

std::size_t widest_line(const std::string& text) {
  std::istringstream lines(text);
  std::size_t widest = 0;
  for (std::string line; std::getline(lines, line);) {
    widest = std::max(widest, display_width(line));
  }
  return widest;
}

TEST(SinkDocument, HoldsTheStableKeys) {
  const Json json = Json::parse(sink_json(run_info(), {{"none", survey()}, {"random", survey()}}));
  EXPECT_EQ(json.at("model").at("name"), "toy");
  EXPECT_EQ(json.at("model").at("kv_heads"), 1);
  EXPECT_EQ(json.at("inputs").at("sequences"), 2);
  EXPECT_TRUE(json.at("inputs").at("bos").is_null());
  EXPECT_EQ(json.at("sink").at("mean").at(2).at(1), 0.5);
  EXPECT_EQ(json.at("sink").at("rate"), Json({0.0, 0.5, 1.0}));
  EXPECT_EQ(json.at("norm").at("index"), Json({0, 0.5, 1, 1.5, 2, 2.5, 3}));
  EXPECT_EQ(json.at("waves").at(0).at("last"), 2);
  EXPECT_EQ(json.at("loss"), 3.5);
  EXPECT_EQ(json.at("files").at("archive"), "out/p0.h5");
  EXPECT_TRUE(json.at("conditions").contains("random"));
  EXPECT_THROW(sink_json(run_info(), {}), Error);
}

TEST(SinkDocument, WhatIsNoNumberBecomesNull) {
  const Json json = Json::parse(sink_json(run_info(), {{"none", survey()}}));
  EXPECT_TRUE(json.at("norm").at("p0_cosine").at(0).is_null());
}

TEST(SinkText, ShowsWavesStepsAndSecondarySinks) {
  const std::string text = sink_text(run_info(), {{"none", survey()}}, nullptr);
  EXPECT_NE(text.find("Wave 1: layers 1-2, mean sink 0.700, peak at layer 2"), std::string::npos);
  EXPECT_NE(text.find("m0 x23 (median position x15)"), std::string::npos);
  EXPECT_NE(text.find("token 7 at 12 positions"), std::string::npos);
  EXPECT_NE(text.find("3.500 [3.250, 3.750] nats"), std::string::npos);
  EXPECT_LE(widest_line(text), 110U);
}

TEST(P0Document, HoldsTheStableKeys) {
  const Json json = Json::parse(p0_json(run_info(), p0_report()));
  EXPECT_EQ(json.at("verdict"), "positional");
  EXPECT_EQ(json.at("run").at("seed"), std::numeric_limits<std::uint64_t>::max());
  const Json& wave = json.at("waves").at(0);
  EXPECT_EQ(wave.at("onset"), 1);
  EXPECT_EQ(wave.at("blocks"), Json({0, 1}));
  const Json& rung = wave.at("ladder").at(0);
  EXPECT_EQ(rung.at("level"), "L1");
  EXPECT_EQ(rung.at("interval"), Json({0.6, 0.8}));
  EXPECT_EQ(rung.at("holds"), "yes");
  EXPECT_EQ(wave.at("ladder").at(1).at("holds"), "untested");
  EXPECT_TRUE(wave.at("knockouts").at(2).at("removed").is_null());
  EXPECT_TRUE(wave.at("knockouts").at(0).at("loss_change").is_null());
  EXPECT_EQ(wave.at("sets").at(0).at("loss_change").at("mean"), 0.865);
  EXPECT_EQ(json.at("circuit").at("edges").at(0).at("kind"), "or");
  EXPECT_EQ(json.at("circuit").at("edges").at(0).at("interval").at(1), 0.75);
  EXPECT_EQ(wave.at("graph").at("doubtful").at(0).at("path"), "m0->m1");
}

TEST(P0Text, SaysTheVerdictInASentenceAndFitsThePage) {
  const P0Report found = p0_report();
  EXPECT_EQ(
      wave_sentence(found.waves.front()),
      "Layers 1-2: positional sink, made at position 0 whatever the token, written by m0 and m1, "
      "which need a0 (blocks 0, 1); erased by m2; alternatives for each other: {m0, m1}.");
  const std::string text = p0_text(run_info(), found, nullptr);
  EXPECT_NE(text.find("VERDICT: positional"), std::string::npos);
  EXPECT_NE(text.find("94 % / 750"), std::string::npos);
  EXPECT_NE(text.find("mean: removed"), std::string::npos);
  EXPECT_NE(text.find("+0.865"), std::string::npos);
  EXPECT_NE(text.find("Smallest set that is enough: {0, 1}"), std::string::npos);
  EXPECT_NE(text.find("not tested"), std::string::npos);
  EXPECT_LE(widest_line(text), 110U);
}

TEST(P0Text, AJobThatEndedEarlyClaimsNothing) {
  P0Report found = p0_report();
  found.complete = false;
  found.waves.front().ladder.clear();
  const std::string text = p0_text(run_info(), found, nullptr);
  EXPECT_NE(text.find("VERDICT: not reached"), std::string::npos);
  EXPECT_EQ(text.find("positional sink"), std::string::npos);
  EXPECT_NE(text.find("94 % / 750"), std::string::npos);
  const Json json = Json::parse(p0_json(run_info(), found));
  EXPECT_TRUE(json.at("verdict").is_null());
  EXPECT_TRUE(json.at("waves").at(0).at("verdict").is_null());
  EXPECT_EQ(json.at("waves").at(0).at("knockouts").size(), 3U);
}

TEST(P0Text, NoWaveIsAnAnswer) {
  P0Report found;
  found.complete = true;
  found.surveys = {survey()};
  found.surveys.front().waves.clear();
  found.survey_names = {"plain"};
  const std::string text = p0_text(run_info(), found, nullptr);
  EXPECT_NE(text.find("VERDICT: none"), std::string::npos);
  EXPECT_NE(text.find("there is no sink to explain"), std::string::npos);
}

TEST(P0Archive, HoldsWhatWasFoundWithItsAxes) {
  const std::filesystem::path path = scratch_dir() / "p0.h5";
  P0Inputs inputs;
  inputs.plain = make_inputs({{1, 2, 3, 4, 5}, {6, 7, 8}}, 5, std::nullopt, "text");
  write_archive(path, run_info(), p0_report(), inputs);

  const Archive archive(path);
  EXPECT_EQ(archive.attribute("/provenance", "command_line"), "plumb p0 toy");
  EXPECT_EQ(archive.attribute("/provenance", "seed"), "18446744073709551615");
  EXPECT_EQ(archive.tensor("/inputs/lengths")[1].item<std::int64_t>(), 3);
  EXPECT_EQ(archive.tensor("/sink/text_no_BOS/mean").sizes(), at::IntArrayRef({kLayers, kHeads}));
  EXPECT_EQ(archive.label("/sink/text_no_BOS/mean").axes,
            (std::vector<std::string>{"layer", "head"}));
  EXPECT_EQ(archive.strings("/p0/wave1/knockouts/kind"),
            (std::vector<std::string>{"zero", "mean", "mean"}));
  const at::Tensor change = archive.tensor("/p0/wave1/sets/loss_change");
  ASSERT_EQ(change.sizes(), at::IntArrayRef({1, 3}));
  EXPECT_EQ(change[0][0].item<double>(), 0.865);
  EXPECT_TRUE(std::isnan(archive.tensor("/p0/wave1/knockouts/loss_change")[0][0].item<double>()));
  EXPECT_EQ(archive.strings("/p0/wave1/ladder/holds"),
            (std::vector<std::string>{"yes", "untested"}));
  EXPECT_EQ(archive.strings("/circuit/edges/to"), (std::vector<std::string>{"sink[1-2]"}));
  EXPECT_EQ(archive.tensor("/circuit/edges/low")[0].item<double>(), 0.25);
  EXPECT_EQ(archive.tensor("/circuit/edges/high")[0].item<double>(), 0.75);
  EXPECT_EQ(archive.strings("/p0/wave1/graph/doubtful/name"), (std::vector<std::string>{"m0->m1"}));
  EXPECT_EQ(archive.tensor("/p0/wave1/graph/doubtful/elsewhere")[0][1].item<double>(), -0.01);
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

TEST(Pictures, EveryCellHasTheColourOfItsValue) {
  PatchReport report;
  report.options.metric.name = "a < b";
  report.options.metric.kind = MetricKind::custom;
  Sweep sweep{.spec = parse_sweep("z:layer,head")};
  sweep.values = at::tensor({0.0, 2.0, -2.0, 1.0, kNan, 0.0}, at::kDouble).view({3, 2});
  Sweep flat{.spec = parse_sweep("resid_pre:layer"), .values = at::ones({3}, at::kDouble)};
  report.sweeps = {sweep, flat};
  const std::string svg = patch_svg(report);
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg;
  EXPECT_TRUE(svg.ends_with("</svg>\n")) << svg;
  EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
  EXPECT_EQ(count_of(svg, "</title></rect>"), 6);
  EXPECT_EQ(count_of(svg, "fill=\"#ffffff\"><title>layer 0, head 0: 0<"), 1) << svg;
  EXPECT_EQ(count_of(svg, "fill=\"#a50f20\"><title>layer 0, head 1: 2"), 1) << svg;
  EXPECT_EQ(count_of(svg, "fill=\"#1450a0\"><title>layer 1, head 0: -2"), 1) << svg;
  EXPECT_EQ(count_of(svg, "fill=\"#bbbbbb\"><title>layer 2, head 0: nan"), 1) << svg;
  report.sweeps = {flat};
  EXPECT_EQ(patch_svg(report), "");
}

}  // namespace
}  // namespace plumb::test
