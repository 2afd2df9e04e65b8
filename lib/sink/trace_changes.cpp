// Where along a training something changes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/random.h"
#include "plumb/trace.h"

namespace plumb {

namespace {

constexpr double likelihood_95 = 3.841;  // 95 % of chi-square with one degree of freedom
constexpr double significance = 0.05;
constexpr std::size_t fewest = 5;
constexpr int shuffles = 999;
constexpr double rounding = 1e-12;  // share of the whole variance below which a fit is perfect

// Squared distances of both parts to their means, for a cut before each entry but the first.
std::vector<double> two_part_errors(const std::vector<double>& values) {
  const std::size_t n = values.size();
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  double total = 0;
  for (const double value : values) total += (value - mean) * (value - mean);
  std::vector<double> errors;
  double left = 0;
  for (std::size_t k = 1; k < n; ++k) {
    left += values[k - 1] - mean;
    // Both parts' means differ from the whole's by left / k and -left / (n - k).
    const auto first = static_cast<double>(k);
    const auto second = static_cast<double>(n - k);
    const double explained = left * left * (1.0 / first + 1.0 / second);
    errors.push_back(std::max(total - explained, rounding * total));
  }
  return errors;
}

double smallest(const std::vector<double>& errors) { return *std::ranges::min_element(errors); }

}  // namespace

ChangePoint find_change(const std::vector<std::int64_t>& steps, const std::vector<double>& values,
                        std::uint64_t seed) {
  std::vector<double> at;
  std::vector<double> kept;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    at.push_back(static_cast<double>(steps[i]));
    kept.push_back(values[i]);
  }
  ChangePoint change;
  const auto [lowest, highest] = std::ranges::minmax_element(kept);
  if (kept.size() < fewest || *lowest == *highest) return change;
  const std::vector<double> errors = two_part_errors(kept);
  const double best = smallest(errors);
  const auto cut = static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin()) + 1;
  change.step = 0.5 * (at[cut - 1] + at[cut]);
  change.low = at[cut - 1];
  change.high = at[cut];
  const auto count = static_cast<double>(kept.size());
  for (std::size_t k = 1; k < kept.size(); ++k) {
    if (count * std::log(errors[k - 1] / best) > likelihood_95) continue;
    change.low = std::min(change.low, at[k - 1]);
    change.high = std::max(change.high, at[k]);
  }
  const auto mean = [&](std::size_t from, std::size_t to) {
    return std::accumulate(kept.begin() + static_cast<std::ptrdiff_t>(from),
                           kept.begin() + static_cast<std::ptrdiff_t>(to), 0.0) /
           static_cast<double>(to - from);
  };
  change.before = mean(0, cut);
  change.after = mean(cut, kept.size());
  Random random(seed);
  int as_good = 0;
  for (int i = 0; i < shuffles; ++i) {
    std::vector<double> shuffled;
    for (const std::int64_t k : random.permutation(static_cast<std::int64_t>(kept.size())))
      shuffled.push_back(kept[static_cast<std::size_t>(k)]);
    if (smallest(two_part_errors(shuffled)) <= best) ++as_good;
  }
  change.p = (1.0 + as_good) / (1.0 + shuffles);
  change.found = change.p <= significance;
  return change;
}

TraceSummary summarise(const Trace& trace, std::uint64_t seed) {
  TraceSummary summary;
  std::vector<std::int64_t> steps;
  for (const TraceEntry& entry : trace.entries) steps.push_back(entry.step);
  const auto first_finite = [&](const char* column) -> std::optional<std::int64_t> {
    const std::vector<double> series = trace.series(column);
    const auto found = std::ranges::find_if(series, [](double v) { return std::isfinite(v); });
    if (found == series.end()) return {};
    return steps[static_cast<std::size_t>(found - series.begin())];
  };
  summary.first_wave = first_finite("onset");
  summary.first_onset = first_finite("onset_rate");
  summary.sink = find_change(steps, trace.series("sink_max"), seed);
  summary.loss = find_change(steps, trace.series("loss"), seed);
  summary.lag = summary.lag_low = summary.lag_high = std::numeric_limits<double>::quiet_NaN();
  if (summary.sink.found && summary.loss.found) {
    summary.lag = summary.sink.step - summary.loss.step;
    summary.lag_low = summary.sink.low - summary.loss.high;
    summary.lag_high = summary.sink.high - summary.loss.low;
  }
  return summary;
}

}  // namespace plumb
