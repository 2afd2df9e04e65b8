// The models of data/models, which `plumb train` grew: what is said of them is measured again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "plumb/inputs.h"
#include "plumb/metrics.h"
#include "plumb/p0.h"
#include "plumb/run.h"
#include "plumb/trace.h"
#include "plumb/train.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t length = 48;

fs::path grown(const std::string& name) { return source_dir() / "data/models" / name; }

/// The sequences of the task that the run held out, drawn without the start rule.
Inputs held_out(const std::string& name) {
  return make_inputs(read_token_file(grown(name) / "held_out.json"), length, {}, "tokens");
}

/// Random ids are not sequences of the task: the condition with them is left out.
P0Report locate(const std::string& name, const fs::path& checkpoint) {
  return locate_p0(load(checkpoint, {.threads = 1}), P0Inputs{.plain = held_out(name)});
}

P0Report locate_last(const std::string& name) {
  return locate(name, find_checkpoints(grown(name)).back().path);
}

// Only position 0 sees itself alone in both of the first blocks; made so in both, another position
// draws the same attention, and made so in one it does not.
TEST(GrownModels, ThePositionalSinkNeedsTheFirstTwoBlocks) {
  const P0Report report = locate_last("llama");
  EXPECT_EQ(report.verdict, Verdict::positional);
  ASSERT_EQ(report.waves.size(), 1U);
  const WaveReport& wave = report.waves.front();
  EXPECT_EQ(wave.wave.onset, 2);
  for (const char* level : {"L1", "L4", "L5"}) {
    const auto rung = std::ranges::find(wave.ladder, level, &Rung::level);
    ASSERT_NE(rung, wave.ladder.end());
    EXPECT_EQ(rung->holds, Holds::yes) << level << " " << rung->claim << " " << rung->value;
  }
  EXPECT_EQ(wave.smallest_mask, (std::vector<int>{0, 1}));
  EXPECT_GT(wave.vocabulary_share, 0.9);
}

TEST(GrownModels, WithoutPositionEncodingThereIsASinkAsWell) {
  const P0Report report = locate_last("nope");
  EXPECT_EQ(report.verdict, Verdict::positional);
  EXPECT_EQ(report.position_shift_change, 0.0);
}

TEST(GrownModels, WithoutTheStartRuleOrTrainingThereIsNone) {
  EXPECT_EQ(locate_last("llama-control").verdict, Verdict::none);
  EXPECT_EQ(locate("llama", find_checkpoints(grown("llama")).front().path).verdict, Verdict::none);
}

TEST(GrownModels, TheTraceTellsWhenTheSinkCame) {
  const auto entries = find_checkpoints(grown("llama"));
  const Trace trace = trace_checkpoints(entries, held_out("llama"), {}, {.threads = 1});
  const TraceSummary summary = summarise(trace);
  EXPECT_EQ(summary.first_wave, 1000);
  ASSERT_TRUE(summary.sink.found);
  EXPECT_EQ(summary.sink.step, 450.0);
  EXPECT_GT(summary.sink.after, summary.sink.before + 0.05);
  EXPECT_EQ(trace.series("onset").back(), 2.0);
  // What marks position 0 there is written by the first two blocks: a direction, and less norm than
  // others have, not more.
  EXPECT_GT(trace.series("concentration").back(), 0.9);
  EXPECT_LT(trace.series("norm.2").back(), 0.5);
  EXPECT_GT(trace.series("separability.2").back(), 0.9);
}

TEST(GrownModels, LossesAreTheReferenceOnes) {
  constexpr double rounding = 1e-7;  // float64, but for the reference's rotary tables in float32
  const auto golden =
      nlohmann::json::parse(std::ifstream(source_dir() / "tests/golden/grown_models.json"));
  ASSERT_FALSE(golden.empty());
  for (const auto& [name, losses] : golden.items()) {
    const std::string run = name.substr(0, name.find('/'));
    const Inputs inputs = head(held_out(run), std::ssize(losses), length);
    const Model model =
        load(source_dir() / "data/models" / name, {.dtype = at::kDouble, .threads = 1});
    const at::Tensor logits = plumb::run(model, inputs.tokens).logits;
    const at::Tensor found = token_loss(logits, inputs.tokens.ids).mean(1);
    for (std::int64_t b = 0; b < std::ssize(losses); ++b) {
      EXPECT_NEAR(found[b].item<double>(), losses[static_cast<std::size_t>(b)].get<double>(),
                  rounding)
          << name << " sequence " << b;
    }
  }
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream stream(line);
  for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
  return cells;
}

// Bundled weights are the trained ones, rounded to float16.
TEST(GrownModels, BundledWeightsDoWhatTheTrainedOnesDid) {
  constexpr double rounding = 0.01;  // of attention and of nats, from weights of 11 bits
  for (const char* run : {"llama", "llama-control", "nope"}) {
    const auto entries = find_checkpoints(grown(run));
    std::ifstream in(grown(run) / "probes.csv");
    std::string line;
    std::getline(in, line);
    const std::vector<std::string> columns = cells_of(line);
    const auto options = nlohmann::json::parse(std::ifstream(grown(run) / "train.json"));
    const TaskOptions task{.seed = options.at("task").at("seed").get<std::uint64_t>()};
    const TaskBatch batch = Task(task).held_out(0, 64);
    std::size_t compared = 0;
    while (std::getline(in, line)) {
      const std::vector<std::string> cells = cells_of(line);
      const auto entry = std::ranges::find(entries, std::stoll(cells.front()), &TraceEntry::step);
      if (entry == entries.end()) continue;
      ++compared;
      const TaskMeasure measure = measure_task(load(entry->path, {.threads = 1}), batch);
      const auto expect = [&](const std::string& column, double value) {
        const auto place = std::ranges::find(columns, column) - columns.begin();
        EXPECT_NEAR(value, std::stod(cells.at(static_cast<std::size_t>(place))), rounding)
            << run << " " << entry->name << " " << column;
      };
      expect("loss_silent", measure.loss_silent);
      expect("loss_active", measure.loss_active);
      for (int layer = 0; layer < 3; ++layer) {
        for (int h = 0; h < 4; ++h) {
          expect("silent.L" + std::to_string(layer) + ".h" + std::to_string(h),
                 measure.sink_silent[layer][h].item<double>());
        }
      }
    }
    EXPECT_EQ(compared, entries.size());
  }
}

}  // namespace
}  // namespace plumb::test
