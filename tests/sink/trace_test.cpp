// Series along checkpoints, and where they change.
#include "plumb/trace.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/random.h"
#include "plumb/error.h"
#include "plumb/plant.h"
#include "plumb/report_trace.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

Inputs planted_inputs() {
  const at::Tensor ids = plant_tokens(plant(), 3, 8, 24);
  std::vector<std::vector<std::int64_t>> lists;
  for (std::int64_t b = 0; b < ids.size(0); ++b) {
    lists.emplace_back();
    for (std::int64_t t = 0; t < ids.size(1); ++t)
      lists.back().push_back(ids[b][t].item<std::int64_t>());
  }
  return make_inputs(lists, 24, {}, "tokens");
}

/// A "training" whose sink is there from step 300 on: planted models without and with it.
fs::path planted_training(const std::vector<std::int64_t>& steps) {
  static const Planted without = plant({.route = Route::none, .layers = 4});
  static const Planted with = plant({.layers = 4});
  const fs::path directory = scratch_dir() / "training";
  for (const std::int64_t step : steps)
    write_planted(step < 300 ? without : with, directory / ("step-" + std::to_string(step)));
  return directory;
}

TEST(TraceFiles, CheckpointsAreFoundByTheLastNumberOfTheirName) {
  const fs::path directory = planted_training({1000, 20});
  fs::create_directories(directory / "step-7.part");
  fs::create_directories(directory / "logs-3");
  std::ofstream(directory / "train.csv") << "step\n";
  const auto entries = find_checkpoints(directory);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].step, 20);
  EXPECT_EQ(entries[1].step, 1000);
  EXPECT_NE(entries[0].stamp, "");
  write_planted(plant(), directory / "again-20");
  EXPECT_THROW(find_checkpoints(directory), Error);
  EXPECT_THROW(find_checkpoints(directory / "logs-3"), Error);
  EXPECT_THROW(find_checkpoints(directory / "none"), Error);
}

TEST(Trace, TellsWhereAPlantedSinkBegins) {
  const Inputs inputs = planted_inputs();
  const auto entries = find_checkpoints(planted_training({0, 100, 200, 300, 400, 500, 600, 700}));
  const Trace trace = trace_checkpoints(entries, inputs, {}, {.threads = 1});
  EXPECT_EQ(trace.measured, 8);
  const TraceSummary summary = summarise(trace);
  EXPECT_EQ(summary.first_wave, 300);
  ASSERT_TRUE(summary.sink.found);
  EXPECT_EQ(summary.sink.step, 250.0);
  EXPECT_EQ(summary.sink.low, 200.0);
  EXPECT_EQ(summary.sink.high, 300.0);
  EXPECT_GT(summary.sink.after, summary.sink.before + 0.2);
  // The plant: blocks 0 and 1 write the norm, and heads read it from layer 2 on.
  const std::vector<double> onset = trace.series("onset");
  const std::vector<double> both = trace.series("concentration");
  EXPECT_TRUE(std::isnan(onset[0]));
  EXPECT_TRUE(std::isnan(both[0]));
  EXPECT_EQ(onset[6], 2.0);
  EXPECT_GT(both[6], 0.9);
  double sum = trace.series("share.input")[6];
  for (int block = 0; block < 2; ++block) sum += trace.series("share.b" + std::to_string(block))[6];
  constexpr double rounding = 1e-4;  // float32 streams of norm 250
  EXPECT_NEAR(sum, 1.0, rounding);
  EXPECT_GT(trace.series("norm.2")[6], 4.0);
  EXPECT_NEAR(trace.series("front_depth")[6] + trace.series("sink_rate")[6], 1.0, 1e-12);
  EXPECT_THROW(trace.series("norms"), Error);
}

TEST(Trace, MeasuresNewCheckpointsOnly) {
  const Inputs inputs = planted_inputs();
  const fs::path directory = planted_training({0, 400});
  const fs::path file = scratch_dir() / "trace.h5";
  RunInfo run;
  int kept = 0;
  const auto keep = [&](const Trace& trace) {
    ++kept;
    write_archive(file, run, inputs, trace);
  };
  const Trace first =
      trace_checkpoints(find_checkpoints(directory), inputs, {}, {.threads = 1}, {}, keep);
  EXPECT_EQ(kept, 2);
  write_planted(plant({.seed = 4, .layers = 4}), directory / "step-500");
  const auto known = read_trace(file, inputs, {});
  ASSERT_TRUE(known.has_value());
  const Trace second =
      trace_checkpoints(find_checkpoints(directory), inputs, {}, {.threads = 1}, known, keep);
  EXPECT_EQ(second.measured, 1);
  EXPECT_EQ(kept, 3);
  ASSERT_EQ(second.entries.size(), 3U);
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t k = 0; k < first.values[i].size(); ++k) {
      const bool both_nan = std::isnan(first.values[i][k]) && std::isnan(second.values[i][k]);
      EXPECT_TRUE(both_nan || first.values[i][k] == second.values[i][k]) << first.columns[k];
    }
  }
  // Other options: nothing is taken over.
  TraceOptions other;
  other.sink.epsilon = 0.4;
  EXPECT_FALSE(read_trace(file, inputs, other).has_value());
  EXPECT_FALSE(read_trace(scratch_dir() / "none.h5", inputs, {}).has_value());
  // A checkpoint that changed is measured again.
  write_planted(plant({.seed = 9, .layers = 4}), directory / "step-0");
  EXPECT_EQ(trace_checkpoints(find_checkpoints(directory), inputs, {}, {.threads = 1},
                              read_trace(file, inputs, {}))
                .measured,
            1);
}

TEST(Trace, RefusesCheckpointsOfDifferentModels) {
  const fs::path directory = planted_training({0});
  write_planted(plant({.layers = 5}), directory / "step-1");
  EXPECT_THROW(trace_checkpoints(find_checkpoints(directory), planted_inputs(), {}, {.threads = 1}),
               Error);
}

// A step among noise: the interval should hold the true place in about 95 of 100 series.
TEST(ChangePoints, IntervalsCoverTheTruePlace) {
  constexpr int series = 200;
  constexpr int length = 24;
  constexpr double least_covered = 0.9;  // of 200: three deviations below 0.95
  std::vector<std::int64_t> steps;
  for (int i = 0; i < length; ++i) steps.push_back(100 * i);
  int covered = 0;
  int found = 0;
  for (int k = 0; k < series; ++k) {
    Random random(static_cast<std::uint64_t>(k));
    const std::int64_t place = 4 + random.below(length - 8);
    std::vector<double> values;
    for (int i = 0; i < length; ++i)
      values.push_back((i < place ? 0.0 : 1.0) + 0.4 * random.normal());
    const ChangePoint change = find_change(steps, values);
    found += change.found ? 1 : 0;
    const double truth = 100.0 * static_cast<double>(place) - 50.0;
    covered += change.low <= truth && truth <= change.high ? 1 : 0;
    EXPECT_LE(change.low, change.step);
    EXPECT_GE(change.high, change.step);
  }
  EXPECT_GT(found, series * 9 / 10);
  EXPECT_GT(covered, static_cast<int>(least_covered * series));
}

TEST(ChangePoints, NoiseAloneIsSeldomAChange) {
  constexpr int series = 200;
  std::vector<std::int64_t> steps;
  for (int i = 0; i < 20; ++i) steps.push_back(i);
  int found = 0;
  for (int k = 0; k < series; ++k) {
    Random random(static_cast<std::uint64_t>(1000 + k));
    std::vector<double> values;
    for (int i = 0; i < 20; ++i) values.push_back(random.normal());
    found += find_change(steps, values).found ? 1 : 0;
  }
  EXPECT_LT(found, 22);  // 5 % are 10, and three deviations of 3.1
  EXPECT_GT(found, 0);
}

TEST(ChangePoints, ShortAndConstantSeriesHaveNone) {
  EXPECT_FALSE(find_change({0, 1, 2, 3}, {0, 0, 1, 1}).found);
  EXPECT_FALSE(find_change({0, 1, 2, 3, 4, 5}, {2, 2, 2, 2, 2, 2}).found);
  const double unknown = std::nan("");
  const ChangePoint change =
      find_change({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {0, 0, unknown, 0, 0, 0, 1, 1, 1, 1, 1});
  EXPECT_TRUE(change.found);
  EXPECT_EQ(change.step, 5.5);
}

TEST(TraceReport, ThePictureAndTheTableHoldEveryCheckpoint) {
  Trace trace;
  trace.columns = {"loss", "share.input", "share.b0", "sink.L0", "norm.0", "norm.1"};
  TraceSummary summary;
  summary.sink = {.found = true, .p = 0.01, .step = 15, .low = 10, .high = 20};
  for (int i = 0; i < 4; ++i) {
    trace.entries.push_back({10 * i, "a,b<" + std::to_string(i), "", {}});
    trace.values.push_back({1.0 * i, 0.5, std::nan(""), 0.1 * i, 1.0, 2.0});
  }
  const std::string csv = trace_csv(trace);
  EXPECT_EQ(csv.substr(0, csv.find('\n')),
            "step,name,loss,share.input,share.b0,sink.L0,norm.0,norm.1");
  EXPECT_NE(csv.find("\n30,\"a,b<3\",3,0.5,,"), std::string::npos) << csv;
  const std::string svg = trace_svg(trace, summary);
  std::size_t circles = 0;
  for (std::size_t at = svg.find("<circle"); at != std::string::npos;
       at = svg.find("<circle", at + 1))
    ++circles;
  EXPECT_EQ(circles, 4U * 5);
  EXPECT_NE(svg.find("stroke-dasharray"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  // The middle of the axis is halfway between the steps, or between their logarithms.
  EXPECT_NE(svg.find(">15</text>"), std::string::npos);
  trace.entries.back().step = 8000;  // and 0, 10, 20 before: 10 expm1(log1p(800) / 2) is 273
  const std::string wide = trace_svg(trace, summary);
  EXPECT_EQ(wide.find(">4000</text>"), std::string::npos);
  EXPECT_NE(wide.find(">273</text>"), std::string::npos);
}

}  // namespace
}  // namespace plumb::test
