#include "report/pages.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <future>
#include <limits>

namespace plumb::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Effect edit(const std::string& name, const std::string& kind, double sink, double removed) {
  Effect made{.name = name, .kind = kind, .where = "P0"};
  made.sink = {nan, sink};
  made.other_sink = {nan, 0.1};
  made.value = {sink, 0.9 * sink, 1.1 * sink};
  made.removed = removed;
  made.norm = {750.0, 700.0, 800.0};
  made.other_norm = 20;
  made.other_position = 3;
  made.outcome = removed > 0.8 ? "removed" : "kept";
  return made;
}

}  // namespace

RunInfo page_run(int layers, int heads, const std::string& text) {
  RunInfo run;
  run.command = "p0";
  run.command_line = "plumb p0 toy --text '" + text + "'";
  run.model = "toy " + text;
  std::promise<std::string> hash;
  hash.set_value(std::string(64, 'a'));
  run.hash = hash.get_future();
  run.config.family = "llama";
  run.config.layers = layers;
  run.config.heads = heads;
  run.config.kv_heads = 1;
  run.config.d_model = 4;
  run.config.vocab = 10;
  run.all_layers = layers;
  run.dtype = "f32";
  run.device = "cpu";
  run.threads = 2;
  run.seed = 7;
  run.torch = "1.13.1";
  run.started = "2026-01-31T12:00:00Z";
  run.ended = "2026-01-31T12:01:00Z";
  return run;
}

SinkSurvey page_survey(int layers, int heads) {
  SinkSurvey found;
  found.inputs_kind = "text";
  found.sequences = 2;
  found.length = 12;
  found.null = 0.05;
  found.mean =
      at::linspace(0.0, 1.0, std::int64_t{layers} * heads, at::kDouble).view({layers, heads});
  found.mean[0][0] = nan;
  found.sink = found.mean.unsqueeze(0).repeat({2, 1, 1});
  found.layer_mean = found.mean.mean(1);
  found.rate = found.mean.gt(0.3).to(at::kDouble).mean(1);
  found.p0_norm = at::linspace(0.0, 9.2, 2 * layers + 1, at::kDouble).exp();
  found.median_norm = at::linspace(0.0, 4.6, 2 * layers + 1, at::kDouble).exp();
  found.p0_cosine = at::linspace(-0.2, 1.0, 2 * layers + 1, at::kDouble);
  found.separability = at::linspace(0.5, 1.0, 2 * layers + 1, at::kDouble);
  found.loss = {3.5, 3.25, 3.75};
  found.waves = {{.onset = layers / 2, .last = layers - 1, .peak = layers - 1, .mean = 0.7}};
  found.steps = {{.site = "m0", .layer = 0, .mlp = true, .ratio = 23, .median_ratio = 1.5}};
  found.secondary = {{.layer = 1, .token = 7, .count = 12, .sink = 0.3, .norm_ratio = 5}};
  return found;
}

Illustration page_attention(int layers, int heads, int positions, const std::string& text) {
  Illustration shown;
  for (int id = 0; id < 10; ++id) {
    shown.ids.push_back(id);
    shown.texts.push_back(text);
  }
  std::vector<std::int64_t> places;
  for (int l = 0; l < layers; ++l) {
    for (int h = 0; h < heads; ++h) places.insert(places.end(), {l, h});
  }
  shown.heads = at::tensor(places, at::kLong).view({-1, 2});
  at::Tensor uniform = at::ones({positions, positions}, at::kFloat).tril();
  uniform = uniform / uniform.sum(1, true);
  shown.pattern =
      uniform.view({1, 1, positions, positions}).repeat({2, std::int64_t{layers} * heads, 1, 1});
  return shown;
}

P0Inputs page_inputs(int positions) {
  std::vector<std::int64_t> sequence;
  for (int t = 0; t < positions; ++t) sequence.push_back(t % 10);
  P0Inputs inputs;
  inputs.plain = make_inputs({sequence, sequence}, positions, std::nullopt, "text");
  return inputs;
}

P0Report page_report(int layers, int heads, const std::string& text) {
  P0Report found;
  found.complete = true;
  found.verdict = Verdict::positional;
  found.surveys = {page_survey(layers, heads)};
  found.survey_names = {"plain"};
  found.notes = {"a note " + text};
  WaveReport wave;
  wave.wave = found.surveys.front().waves.front();
  wave.verdict = Verdict::positional;
  wave.blocks = {0, 1};
  wave.writers = {"m0", "m1"};
  wave.direction = at::tensor({1.0, 0.0, 0.0, 0.0}, at::kFloat);
  wave.spike_norm = 300;
  wave.ledger.total = 200.0;
  wave.ledger.components = {{.name = "input", .p0 = 1.0, .others = 0.5},
                            {.name = "m1", .p0 = 199.0, .others = -3.0}};
  wave.clean = edit("", "", 0.7, 0.0);
  for (const char* name : {"a0", "m0", "a1", "m1", "a2"}) {
    for (const char* kind : {"zero", "mean", "resample"})
      wave.knockouts.push_back(edit(name, kind, 0.69, 0.01));
  }
  wave.knockouts.push_back(edit(text, "mean", 0.06, 0.98));
  wave.sets = {edit("m0+m1", "mean", 0.05, 1.0)};
  wave.sets.front().loss_change = Estimate{0.865, 0.5, 1.3};
  wave.controls = {edit("m0", "mean", 0.7, 0.0)};
  wave.self_masks = {{.layers = {}, .sink = {0.06, 0.05, 0.07}, .norm = {20, 19, 21}},
                     {.layers = {0, 1},
                      .sink = {0.6, 0.5, 0.7},
                      .norm = {700, 690, 710},
                      .spiking = 1,
                      .sufficient = true}};
  wave.smallest_mask = {0, 1};
  wave.vocabulary_share = 0.97;
  wave.vocabulary_exceptions = {3};
  wave.ladder = {{.level = "L1",
                  .name = "present",
                  .claim = "mean sink " + text,
                  .value = 0.7,
                  .null = 0.05,
                  .low = 0.6,
                  .high = 0.8,
                  .holds = Holds::yes},
                 {.level = "L4", .name = "necessary", .claim = "x", .holds = Holds::no},
                 {.level = "L9", .name = "general", .claim = "one model"}};
  found.waves = {wave};
  found.circuit.title = "toy";
  found.circuit.convention = "share of the projection";
  found.circuit.nodes = {
      {.name = "input@0", .kind = "input"},
      {.name = "a0@0", .kind = "attention", .layer = 0, .score = 0.1},
      {.name = "m0@0", .kind = "mlp", .layer = 0, .score = 0.4, .notes = {{"why", text}}},
      {.name = "m1@0", .kind = "mlp", .layer = 1, .score = 0.5},
      {.name = "sink[2-3]", .kind = "sink", .layer = 2, .score = 1.0},
      {.name = "m3@0", .kind = "mlp", .layer = 3, .score = -0.5}};
  found.circuit.edges = {
      {.from = "input@0", .to = "a0@0", .score = 0.2},
      {.from = "input@0", .to = "m1@0", .score = -0.1},
      {.from = "a0@0", .to = "m0@0", .score = 0.7, .interval = ScoreInterval{0.65, 0.75}},
      {.from = "m0@0", .to = "sink[2-3]", .score = 0.4, .kind = "or"},
      {.from = "m1@0", .to = "sink[2-3]", .score = 0.5, .kind = "or"},
      {.from = "m3@0", .to = "sink[2-3]", .score = -0.5, .kind = "eraser"}};
  return found;
}

void keep_page(const std::string& name, const std::string& page) {
  const char* directory = std::getenv("PLUMB_PAGES");
  if (directory == nullptr) return;
  std::ofstream(std::filesystem::path(directory) / (name + ".html"), std::ios::binary) << page;
}

}  // namespace plumb::test
