// Whether a series of one training, beside those of others, tells where its loss goes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "plumb/error.h"
#include "plumb/trace_runs.h"

namespace plumb {

namespace {

constexpr std::size_t fewest_runs = 3;
constexpr std::size_t most_dealt_out = 7;  // runs of which all ways to deal a series out are tried
constexpr int drawn_ways = 999;
// Share of two variances' product below which two regressors are one.
constexpr double collinear = 1e-9;

using Series = std::vector<double>;  // along the steps that all runs have
using Runs = std::vector<Series>;    // of each run

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "foresight: " + message);
}

std::vector<std::int64_t> common_steps(const std::vector<TracedRun>& runs, std::int64_t first) {
  std::vector<std::int64_t> steps;
  for (const std::int64_t step : runs.front().steps) {
    const bool everywhere = std::ranges::all_of(
        runs, [&](const TracedRun& run) { return std::ranges::binary_search(run.steps, step); });
    if (step >= first && everywhere) steps.push_back(step);
  }
  return steps;
}

double layers_of(const TracedRun& run) {
  const auto layers = std::ranges::count_if(
      run.columns, [](const std::string& column) { return column.starts_with("rate.L"); });
  return static_cast<double>(layers);
}

// With what stands for "no sink" where there is none.
Series filled(const TracedRun& run, const std::string& name) {
  if (name == "since_wave") {
    Series series(run.steps.size(), 0.0);
    const auto first = outcome_of(run).first_wave;
    for (std::size_t i = 0; first && i < series.size(); ++i)
      series[i] = static_cast<double>(std::max<std::int64_t>(0, run.steps[i] - *first));
    return series;
  }
  Series series = run.series(name);
  const double missing = name.starts_with("onset") ? layers_of(run) : 0.0;
  for (double& value : series) value = std::isfinite(value) ? value : missing;
  return series;
}

Series at_steps(const TracedRun& run, const Series& series,
                const std::vector<std::int64_t>& steps) {
  Series kept;
  for (const std::int64_t step : steps) {
    const auto place = std::ranges::lower_bound(run.steps, step) - run.steps.begin();
    kept.push_back(series[static_cast<std::size_t>(place)]);
  }
  return kept;
}

// Indices (now, later) of steps that lie a horizon apart.
std::vector<std::pair<std::size_t, std::size_t>> pairs_of(const std::vector<std::int64_t>& steps,
                                                          std::int64_t horizon) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t now = 0; now < steps.size(); ++now) {
    const auto later = std::ranges::lower_bound(steps, steps[now] + horizon);
    if (later != steps.end() && *later == steps[now] + horizon)
      pairs.emplace_back(now, static_cast<std::size_t>(later - steps.begin()));
  }
  return pairs;
}

// Of each run but one, how far it lies from the mean of all but that one.
Runs deviations(const Runs& all, std::size_t left_out) {
  Runs result = all;
  for (std::size_t t = 0; t < all.front().size(); ++t) {
    double mean = 0;
    for (std::size_t r = 0; r < all.size(); ++r) mean += r == left_out ? 0.0 : all[r][t];
    mean /= static_cast<double>(all.size() - 1);
    for (Series& run : result) run[t] -= mean;
  }
  return result;
}

// Sums of products over runs and steps: of the loss now, the series now and the loss later.
struct Moments {
  double aa = 0, ab = 0, bb = 0, ay = 0, by = 0;
};

struct Squares {
  double mean = 0, loss = 0, series = 0, both = 0;
};

class Bench {
 public:
  Bench(Runs loss, std::vector<std::pair<std::size_t, std::size_t>> pairs)
      : pairs_(std::move(pairs)) {
    for (std::size_t r = 0; r < loss.size(); ++r) loss_.push_back(deviations(loss, r));
  }

  std::int64_t predictions() const { return static_cast<std::int64_t>(pairs_.size()); }

  // Mean squared errors of each run when it is the one left out; `dealt[r]` is run r's series.
  std::vector<Squares> errors(const Runs& dealt) const {
    std::vector<Squares> all;
    for (std::size_t r = 0; r < loss_.size(); ++r) all.push_back(error_of(r, deviations(dealt, r)));
    return all;
  }

 private:
  Squares error_of(std::size_t left_out, const Runs& x) const {
    const Runs& loss = loss_[left_out];
    Moments sum;
    for (std::size_t r = 0; r < loss.size(); ++r) {
      if (r == left_out) continue;
      for (const auto& [now, later] : pairs_) {
        const double a = loss[r][now];
        const double b = x[r][now];
        const double y = loss[r][later];
        sum.aa += a * a;
        sum.ab += a * b;
        sum.bb += b * b;
        sum.ay += a * y;
        sum.by += b * y;
      }
    }
    const auto ratio = [](double up, double down) { return down > 0 ? up / down : 0.0; };
    const double of_loss = ratio(sum.ay, sum.aa);
    const double of_series = ratio(sum.by, sum.bb);
    const double determinant = sum.aa * sum.bb - sum.ab * sum.ab;
    double first = of_loss;
    double second = 0;
    if (determinant > collinear * sum.aa * sum.bb) {
      first = (sum.ay * sum.bb - sum.by * sum.ab) / determinant;
      second = (sum.by * sum.aa - sum.ay * sum.ab) / determinant;
    }
    Squares squares;
    for (const auto& [now, later] : pairs_) {
      const double a = loss[left_out][now];
      const double b = x[left_out][now];
      const double y = loss[left_out][later];
      const auto add = [y](double& total, double predicted) {
        total += (y - predicted) * (y - predicted);
      };
      add(squares.mean, 0.0);
      add(squares.loss, of_loss * a);
      add(squares.series, of_series * b);
      add(squares.both, first * a + second * b);
    }
    const auto count = static_cast<double>(pairs_.size());
    for (double* one : {&squares.mean, &squares.loss, &squares.series, &squares.both})
      *one /= count;
    return squares;
  }

  std::vector<std::pair<std::size_t, std::size_t>> pairs_;
  std::vector<Runs> loss_ = {};  // deviations, for each run that is left out
};

Squares mean_of(const std::vector<Squares>& all) {
  Squares mean;
  for (const Squares& one : all) {
    mean.mean += one.mean;
    mean.loss += one.loss;
    mean.series += one.series;
    mean.both += one.both;
  }
  const auto count = static_cast<double>(all.size());
  return {mean.mean / count, mean.loss / count, mean.series / count, mean.both / count};
}

// What the series adds to the loss: the share of its squared error that goes.
double gain_of(const Squares& mean) { return mean.loss > 0 ? 1.0 - mean.both / mean.loss : 0.0; }

// Ways to deal a series out to the runs, the given one first.
std::vector<std::vector<std::size_t>> ways_of(std::size_t runs, std::uint64_t seed) {
  std::vector<std::size_t> order(runs);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::vector<std::size_t>> ways;
  if (runs <= most_dealt_out) {
    do ways.push_back(order);
    while (std::next_permutation(order.begin(), order.end()));
    return ways;
  }
  ways.push_back(order);
  Random random(seed);
  for (int i = 0; i < drawn_ways; ++i) {
    ways.emplace_back();
    for (const std::int64_t r : random.permutation(static_cast<std::int64_t>(runs)))
      ways.back().push_back(static_cast<std::size_t>(r));
  }
  return ways;
}

Runs dealt(const Runs& series, const std::vector<std::size_t>& way) {
  Runs result;
  for (const std::size_t r : way) result.push_back(series[r]);
  return result;
}

void check(const std::vector<TracedRun>& runs, const ForesightOptions& options) {
  if (runs.size() < fewest_runs)
    refuse(fmt::format("expected {} runs or more, got {}", fewest_runs, runs.size()));
  if (options.horizons.empty()) refuse("expected at least one number of steps to look ahead");
  for (const std::int64_t horizon : options.horizons)
    if (horizon < 1)
      refuse(fmt::format("expected steps to look ahead, 1 or more, not {}", horizon));
}

}  // namespace

std::vector<std::string> foresight_series(const TracedRun& run) {
  std::vector<std::string> series;
  for (const char* name : {"sink_max", "front_depth", "onset", "onset_rate", "concentration"}) {
    if (run.has(name)) series.emplace_back(name);
    if (name == std::string_view("onset") && run.has(name)) series.emplace_back("since_wave");
  }
  for (const std::string& column : run.columns) {
    if (column.starts_with("sink.L") && column.find(".h") == std::string::npos)
      series.push_back(column);
  }
  return series;
}

ForesightReport foresee_loss(const std::vector<TracedRun>& runs, const ForesightOptions& options) {
  check(runs, options);
  ForesightReport report{.options = options};
  if (options.series.empty()) report.options.series = foresight_series(runs.front());
  for (const TracedRun& run : runs) report.runs.push_back(outcome_of(run, options.seed));
  const std::vector<std::int64_t> steps = common_steps(runs, options.first);
  const auto all_of = [&](const std::string& name) {
    Runs all;
    for (const TracedRun& run : runs) all.push_back(at_steps(run, filled(run, name), steps));
    return all;
  };
  const auto ways = ways_of(runs.size(), options.seed);
  std::vector<double> best(ways.size(), -INFINITY);
  for (const std::int64_t horizon : options.horizons) {
    const auto pairs = pairs_of(steps, horizon);
    if (pairs.empty()) refuse(fmt::format("no two steps that all runs have lie {} apart", horizon));
    const Bench bench(all_of("loss"), pairs);
    for (const std::string& name : report.options.series) {
      const Runs series = all_of(name);
      const std::vector<Squares> errors = bench.errors(series);
      const Squares mean = mean_of(errors);
      Foresight found{.series = name,
                      .horizon = horizon,
                      .steps = bench.predictions(),
                      .mean_error = std::sqrt(mean.mean),
                      .loss_error = std::sqrt(mean.loss),
                      .series_error = std::sqrt(mean.series),
                      .both_error = std::sqrt(mean.both)};
      for (const Squares& one : errors) found.better += one.both < one.loss ? 1 : 0;
      const double gain = gain_of(mean);
      std::int64_t as_good = 0;
      for (std::size_t w = 0; w < ways.size(); ++w) {
        const double other = w == 0 ? gain : gain_of(mean_of(bench.errors(dealt(series, ways[w]))));
        if (other >= gain) ++as_good;
        best[w] = std::max(best[w], other);
      }
      found.p = static_cast<double>(as_good) / static_cast<double>(ways.size());
      report.foresights.push_back(found);
    }
  }
  const auto as_good =
      std::ranges::count_if(best, [&](double gain) { return gain >= best.front(); });
  report.family_p = static_cast<double>(as_good) / static_cast<double>(ways.size());
  report.smallest_p = 1.0 / static_cast<double>(ways.size());
  return report;
}

}  // namespace plumb
