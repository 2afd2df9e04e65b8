// Several trainings side by side, and whether the sink of one foretells its loss.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plumb/trace.h"

namespace plumb {

/// What was measured along one training.
struct TracedRun {
  std::string name = {};
  std::vector<std::int64_t> steps = {};          ///< ascending
  std::vector<std::string> columns = {};         ///< as `trace_columns`, and what a training adds
  std::vector<std::vector<double>> values = {};  ///< [step][column]; NaN where there was nothing
  /// One column along the steps. Throws bad_argument, listing the columns.
  std::vector<double> series(const std::string& column) const;
  bool has(const std::string& column) const;
};

/// Of `trace.csv` or, where there is none, `probes.csv` in a directory; or of such a file itself.
/// It is named after the directory. Throws bad_file.
TracedRun read_traced_run(const std::filesystem::path& path);

/// What a training came to.
struct RunOutcome {
  std::string name = {};
  std::int64_t steps = 0;                        ///< the last step measured
  double loss = 0;                               ///< there, nats per predicted token
  double sink = 0;                               ///< `sink_max` there
  std::optional<std::int64_t> first_wave = {};   ///< first step with a wave
  std::optional<std::int64_t> first_onset = {};  ///< first with a layer of sink heads
  ChangePoint change = {};                       ///< of `sink_max`
};
RunOutcome outcome_of(const TracedRun& run, std::uint64_t seed = 0);

struct ForesightOptions {
  std::vector<std::int64_t> horizons = {};  ///< how many steps ahead the loss is foretold
  /// Columns, and "since_wave": steps since the first wave. Empty: `foresight_series`.
  std::vector<std::string> series = {};
  std::int64_t first = 0;  ///< earlier steps are left out
  std::uint64_t seed = 0;
};

/// sink_max, front_depth, onset, onset_rate, since_wave, concentration and the mean sink of each
/// layer, as far as the run has them. Heads are left out: they have no names across trainings.
std::vector<std::string> foresight_series(const TracedRun& run);

/// How well the loss so many steps later is foretold. A run that is left out is predicted from the
/// others: the mean of their later losses, plus what regressions over them (through the origin,
/// over all steps) make of how far the run is now from their mean, in loss and in the series.
/// Errors are root mean squares over steps and runs, in nats.
struct Foresight {
  std::string series = {};
  std::int64_t horizon = 0;
  std::int64_t steps = 0;   ///< predictions in each run
  double mean_error = 0;    ///< of the others' mean alone
  double loss_error = 0;    ///< with the loss now
  double series_error = 0;  ///< with the series now in its place
  double both_error = 0;    ///< with both
  std::int64_t better = 0;  ///< runs in which both err less than the loss alone
  /// Share of the ways to deal the series out to the runs (all of them up to 7 runs, else 999 drawn
  /// ones beside this) in which the loss with the series errs as little against the loss alone.
  double p = 1;
};

struct ForesightReport {
  ForesightOptions options = {};
  std::vector<RunOutcome> runs = {};
  std::vector<Foresight> foresights = {};  ///< by horizon, then series
  double smallest_p = 1;  ///< that so many runs can give: 1 over the ways that were looked at
  /// Share of the ways in which the best of all series and horizons does as well as here.
  double family_p = 1;
};

/// Over the steps that all runs have. Where a series has no value, it has that of a model without a
/// sink: the number of layers for onsets, else 0. Throws bad_argument where there are fewer than 3
/// runs, a column is missing, or no step lies a horizon after another.
ForesightReport foresee_loss(const std::vector<TracedRun>& runs, const ForesightOptions& options);

}  // namespace plumb
