// Trainings side by side: what is read of them, and what foretells their loss.
#include "plumb/trace_runs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/random.h"
#include "plumb/error.h"
#include "plumb/report_trace_runs.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

// Of float64, after regressions over some hundred numbers.
constexpr double rounding = 1e-9;

fs::path csv(const std::string& text) {
  const fs::path directory = scratch_dir() / "seed-1";
  fs::create_directories(directory);
  std::ofstream(directory / "probes.csv") << text;
  return directory;
}

TEST(TracedRuns, AreReadAsTrainingAndTraceWriteThem) {
  const fs::path directory = csv("step,loss,onset\n0,5.5,\n50,4.25,2\n\n");
  const TracedRun probes = read_traced_run(directory);
  EXPECT_EQ(probes.name, "seed-1");
  EXPECT_EQ(probes.steps, (std::vector<std::int64_t>{0, 50}));
  EXPECT_EQ(probes.series("loss"), (std::vector<double>{5.5, 4.25}));
  EXPECT_TRUE(std::isnan(probes.series("onset")[0]));
  EXPECT_EQ(probes.series("onset")[1], 2.0);
  EXPECT_THROW(probes.series("sink"), Error);
  // What plumb trace measured comes first, whatever its checkpoints are called.
  std::ofstream(directory / "trace.csv") << "step,name,loss\r\n7,\"step,\"\"7\"\"\",1e-3\r\n";
  const TracedRun trace = read_traced_run(directory);
  EXPECT_EQ(trace.columns, std::vector<std::string>{"loss"});
  EXPECT_EQ(trace.series("loss"), std::vector<double>{1e-3});
  EXPECT_EQ(read_traced_run(directory / "probes.csv").steps, probes.steps);
  EXPECT_EQ(read_traced_run(directory / "probes.csv").name, "seed-1");
}

TEST(TracedRuns, DamagedTablesAreRefusedWithTheLine) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      read_traced_run(csv(text));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file);
      return error.what();
    }
    return "read";
  };
  EXPECT_NE(message("").find("first column is 'step'"), std::string::npos);
  EXPECT_NE(message("loss,step\n1,2\n").find("line 1"), std::string::npos);
  EXPECT_NE(message("step,loss\n").find("no line of numbers"), std::string::npos);
  EXPECT_NE(message("step,loss\n1,2\n2\n").find("line 3: expected 2 cells"), std::string::npos);
  EXPECT_NE(message("step,loss\n1.5,2\n").find("no whole number"), std::string::npos);
  EXPECT_NE(message("step,loss\n5,2\n5,2\n").find("do not rise"), std::string::npos);
  EXPECT_NE(message("step,loss\n5,2x\n").find("'2x' is no number"), std::string::npos);
  EXPECT_THROW(read_traced_run(scratch_dir()), Error);
  EXPECT_THROW(read_traced_run(scratch_dir() / "none.csv"), Error);
}

TracedRun run_of(const std::string& name, const std::vector<double>& loss,
                 const std::vector<double>& sink) {
  TracedRun run{.name = name, .columns = {"loss", "sink_max"}};
  for (std::size_t i = 0; i < loss.size(); ++i) {
    run.steps.push_back(static_cast<std::int64_t>(i));
    run.values.push_back({loss[i], sink[i]});
  }
  return run;
}

TEST(Foresight, OfThreeRunsIsWhatOneCanReckonByHand) {
  // Later losses are twice those now; the series says nothing.
  const std::vector<TracedRun> runs = {run_of("a", {1, 2}, {0, 0}), run_of("b", {2, 4}, {0, 0}),
                                       run_of("c", {3, 6}, {0, 0})};
  const ForesightReport report = foresee_loss(runs, {.horizons = {1}});
  ASSERT_EQ(report.foresights.size(), 1U);
  const Foresight& found = report.foresights[0];
  EXPECT_EQ(found.series, "sink_max");
  EXPECT_EQ(found.steps, 1);
  // Left out, a and c lie 3 from the mean of the others, b at it.
  EXPECT_NEAR(found.mean_error, std::sqrt(6.0), rounding);
  EXPECT_NEAR(found.loss_error, 0.0, rounding);
  EXPECT_NEAR(found.series_error, std::sqrt(6.0), rounding);
  EXPECT_EQ(found.p, 1.0);
  EXPECT_NEAR(report.smallest_p, 1.0 / 6.0, rounding);
  EXPECT_NE(trace_runs_text(report.runs, report).find("cannot tell"), std::string::npos);
}

// Runs whose losses are noise about one curve, and a series that foretells them so far.
std::vector<TracedRun> noisy_runs(int count, double foretold, std::uint64_t seed) {
  constexpr std::size_t steps = 24;
  constexpr std::size_t ahead = 4;
  Random random(seed);
  std::vector<TracedRun> runs;
  for (int r = 0; r < count; ++r) {
    std::vector<double> loss;
    std::vector<double> sink;
    for (std::size_t t = 0; t < steps + ahead; ++t) {
      loss.push_back(5.0 - 0.1 * static_cast<double>(t) + 0.1 * random.normal());
      sink.push_back(random.normal());
    }
    for (std::size_t t = 0; t < steps; ++t) loss[t + ahead] += 0.1 * foretold * sink[t];
    runs.push_back(run_of("seed " + std::to_string(r), loss, sink));
  }
  return runs;
}

TEST(Foresight, FindsASeriesThatSaysWhereTheLossGoes) {
  const ForesightReport report = foresee_loss(noisy_runs(6, 2.0, 1), {.horizons = {4, 7}});
  ASSERT_EQ(report.foresights.size(), 2U);
  const Foresight& found = report.foresights[0];
  EXPECT_EQ(found.horizon, 4);
  EXPECT_EQ(found.steps, 24);
  EXPECT_LT(found.both_error, 0.7 * found.loss_error);
  EXPECT_LT(found.series_error, 0.7 * found.mean_error);
  EXPECT_EQ(found.better, 6);
  EXPECT_NEAR(found.p, 1.0 / 720.0, rounding);
  EXPECT_NEAR(report.family_p, 1.0 / 720.0, rounding);
  EXPECT_GT(report.foresights[1].p, 0.05);  // seven steps ahead it says nothing
  EXPECT_NE(trace_runs_text(report.runs, report).find("better than the loss alone"),
            std::string::npos);
  // The same bits, again and with the series named.
  const ForesightReport again =
      foresee_loss(noisy_runs(6, 2.0, 1), {.horizons = {4, 7}, .series = {"sink_max"}});
  EXPECT_EQ(trace_runs_json(report.runs, report), trace_runs_json(again.runs, again));
}

TEST(Foresight, SeldomFindsWhatIsNotThere) {
  constexpr int trials = 60;
  int found = 0;
  for (std::uint64_t seed = 0; seed < trials; ++seed) {
    const ForesightReport report =
        foresee_loss(noisy_runs(5, 0.0, 100 + seed), {.horizons = {4, 7}});
    found += report.family_p <= 0.05 ? 1 : 0;
  }
  // 5 % are 3 of 60; by chance more than 8 in one of 200 such tests.
  EXPECT_LE(found, 8);
}

TEST(Foresight, MissingValuesAreThoseOfAModelWithoutASink) {
  const double none = std::nan("");
  std::vector<TracedRun> runs;
  for (int r = 0; r < 3; ++r) {
    TracedRun run{.name = "r", .columns = {"loss", "onset", "rate.L0", "rate.L1", "rate.L2"}};
    for (std::int64_t t = 0; t < 6; ++t) {
      run.steps.push_back(t * 10);
      // The wave of run r begins at step 10 r; none of its losses say so.
      run.values.push_back(
          {4.0 + 0.1 * static_cast<double>(t >= r ? t - r : 0), t >= r ? 1.0 : none, 0, 0, 0});
    }
    runs.push_back(run);
  }
  const ForesightReport report = foresee_loss(runs, {.horizons = {10}});
  ASSERT_EQ(report.foresights.size(), 2U);
  EXPECT_EQ(report.foresights[1].series, "since_wave");
  EXPECT_EQ(report.runs[2].first_wave, 20);
  // Steps since the wave are ten times the loss, so that either foretells as well as the other.
  EXPECT_NEAR(report.foresights[1].series_error, report.foresights[1].loss_error, rounding);
  EXPECT_NEAR(report.foresights[1].both_error, report.foresights[1].loss_error, rounding);
}

TEST(Foresight, WrongOptionsAreRefused) {
  const std::vector<TracedRun> runs = noisy_runs(3, 0.0, 1);
  EXPECT_THROW(foresee_loss({runs[0], runs[1]}, {.horizons = {4}}), Error);
  EXPECT_THROW(foresee_loss(runs, {}), Error);
  EXPECT_THROW(foresee_loss(runs, {.horizons = {0}}), Error);
  EXPECT_THROW(foresee_loss(runs, {.horizons = {400}}), Error);
  EXPECT_THROW(foresee_loss(runs, {.horizons = {4}, .series = {"sinc"}}), Error);
  EXPECT_THROW(foresee_loss(runs, {.horizons = {4}, .first = 1000}), Error);
}

TEST(TracedRuns, AreDrawnWithALineEach) {
  TracedRun a{.name = "a<b", .steps = {0, 10}, .columns = {"loss", "head.0", "head.1"}};
  a.values = {{5, 0.1, 0.4}, {4, 0.9, 0.2}};
  TracedRun b = run_of("other", {3, 2}, {0, 0});
  const auto count = [](const std::string& text, const std::string& part) {
    int found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
      ++found;
    return found;
  };
  const std::string picture = trace_runs_svg({a, b}, {"loss", "head.*"});
  EXPECT_EQ(count(picture, "fill=\"none\" stroke=\"#"), 2 + 3);  // two frames, three lines
  EXPECT_EQ(count(picture, "<circle"), 6);
  EXPECT_EQ(count(picture, ">a&lt;b</text>"), 2);
  EXPECT_EQ(count(picture, ">head.*</text>"), 1);
  // The larger of both heads at either step.
  TracedRun most{.name = "a<b", .steps = {0, 10}, .columns = {"loss", "head.*"}};
  most.values = {{5, 0.4}, {4, 0.9}};
  EXPECT_EQ(trace_runs_svg({most, b}, {"loss", "head.*"}), picture);
  EXPECT_THROW(trace_runs_svg({a, b}, {"heat"}), Error);
  // Panels of the same runs share a legend, beside all of them.
  std::vector<TracedRun> many;
  for (int r = 0; r < 20; ++r) many.push_back(run_of("run " + std::to_string(r), {1, 2}, {0, 0}));
  const std::string crowded = trace_runs_svg(many, {"loss", "sink_max"});
  EXPECT_EQ(count(crowded, ">run "), 20);
  EXPECT_EQ(count(trace_runs_svg(many, {"loss"}), ">run "), 11);  // what one panel has room for
}

}  // namespace
}  // namespace plumb::test
