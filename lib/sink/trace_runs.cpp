// Reading what was measured along a training, and what it came to.
#include "plumb/trace_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

#include "experiment/text_files.h"
#include "plumb/error.h"

namespace plumb {

namespace {

namespace fs = std::filesystem;

template <typename Number>
bool read_number(const std::string& cell, Number& value) {
  const char* end = cell.data() + cell.size();
  const auto [stop, error] = std::from_chars(cell.data(), end, value);
  return error == std::errc{} && stop == end;
}

class Reader {
 public:
  explicit Reader(const fs::path& file) : file_(file), content_(read_input(file)) {}

  TracedRun read() {
    read_titles();
    while (at_ < content_.size()) {
      ++line_;
      const std::vector<std::string> cells = csv_record(content_, at_);
      if (cells.size() > 1 || !cells.front().empty()) read_row(cells);
    }
    if (run_.steps.empty()) fail("it has no line of numbers");
    return std::move(run_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::bad_file,
                fmt::format("cannot read the series of a training from '{}', line {}: {}",
                            file_.string(), line_, what));
  }

  void read_titles() {
    titles_ = csv_record(content_, at_);
    if (titles_.front() != "step") fail("expected a table whose first column is 'step'");
    for (std::size_t i = 1; i < titles_.size(); ++i)
      if (titles_[i] != "name") run_.columns.push_back(titles_[i]);
  }

  void read_row(const std::vector<std::string>& cells) {
    if (cells.size() != titles_.size())
      fail(fmt::format("expected {} cells, found {}", titles_.size(), cells.size()));
    std::int64_t step = 0;
    if (!read_number(cells.front(), step)) fail("its step is no whole number");
    if (!run_.steps.empty() && step <= run_.steps.back()) fail("its steps do not rise");
    std::vector<double> row;
    for (std::size_t i = 1; i < cells.size(); ++i) {
      if (titles_[i] == "name") continue;
      double value = std::numeric_limits<double>::quiet_NaN();
      if (!cells[i].empty() && !read_number(cells[i], value))
        fail(fmt::format("'{:.40}' is no number", cells[i]));
      row.push_back(value);
    }
    run_.steps.push_back(step);
    run_.values.push_back(std::move(row));
  }

  fs::path file_;
  std::string content_;
  std::size_t at_ = 0;  // where the next record begins
  int line_ = 1;
  std::vector<std::string> titles_ = {};
  TracedRun run_ = {};
};

std::optional<std::int64_t> first_finite(const TracedRun& run, const std::string& column) {
  if (!run.has(column)) return {};
  const std::vector<double> series = run.series(column);
  const auto found = std::ranges::find_if(series, [](double v) { return std::isfinite(v); });
  if (found == series.end()) return {};
  return run.steps[static_cast<std::size_t>(found - series.begin())];
}

}  // namespace

bool TracedRun::has(const std::string& column) const {
  return std::ranges::find(columns, column) != columns.end();
}

std::vector<double> TracedRun::series(const std::string& column) const {
  const auto found = std::ranges::find(columns, column);
  if (found == columns.end()) {
    throw Error(ErrorKind::bad_argument, fmt::format("{} has no column '{}'; its columns are: {}",
                                                     name, column, fmt::join(columns, ", ")));
  }
  const auto index = static_cast<std::size_t>(found - columns.begin());
  std::vector<double> series;
  for (const auto& row : values) series.push_back(row[index]);
  return series;
}

TracedRun read_traced_run(const fs::path& path) {
  std::error_code ignored;
  fs::path file = path;
  fs::path named = path;
  if (fs::is_directory(path, ignored)) {
    file = path / "trace.csv";
    if (!fs::exists(file, ignored)) file = path / "probes.csv";
    if (!fs::exists(file, ignored)) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("'{}' holds neither trace.csv nor probes.csv, which plumb trace and "
                              "plumb train write",
                              path.string()));
    }
  } else {
    named = path.parent_path();
  }
  TracedRun run = Reader(file).read();
  run.name =
      named.has_filename() ? named.filename().string() : named.parent_path().filename().string();
  return run;
}

RunOutcome outcome_of(const TracedRun& run, std::uint64_t seed) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  RunOutcome outcome{.name = run.name, .steps = run.steps.back(), .loss = none, .sink = none};
  if (run.has("loss")) outcome.loss = run.series("loss").back();
  if (run.has("sink_max")) {
    outcome.sink = run.series("sink_max").back();
    outcome.change = find_change(run.steps, run.series("sink_max"), seed);
  }
  outcome.first_wave = first_finite(run, "onset");
  outcome.first_onset = first_finite(run, "onset_rate");
  return outcome;
}

}  // namespace plumb
