// The report of `plumb patch`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "plumb/report.h"
#include "plumb/report_text.h"
#include "report/patch_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

constexpr std::int64_t leading_sites = 10;
constexpr std::int64_t widest_map = 100;  // columns of a heat map that fit the page

std::vector<std::string> numbers(std::int64_t count) {
  std::vector<std::string> labels;
  for (std::int64_t i = 0; i < count; ++i) labels.push_back(std::to_string(i));
  return labels;
}

// The sites of the largest values, by absolute value.
std::string leading(const Sweep& sweep) {
  const at::Tensor flat = sweep.values.contiguous().view({-1});
  const std::int64_t count = std::min(leading_sites, flat.numel());
  const at::Tensor order =
      at::argsort(at::nan_to_num(flat.abs(), -1.0), 0, true).narrow(0, 0, count);
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> titles;
  for (const SweepAxis axis : sweep.spec.axes) titles.emplace_back(to_string(axis));
  titles.emplace_back("value");
  if (sweep.low.defined()) titles.emplace_back("95 % interval");
  titles.emplace_back("raw, 95 % interval over pairs");
  const at::Tensor each = sweep.each.contiguous().view({flat.numel(), -1});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = order[i].item<std::int64_t>();
    std::vector<std::string> row(sweep.spec.axes.size());
    std::int64_t rest = index;
    for (std::size_t axis = row.size(); axis-- > 0;) {
      const std::int64_t size = sweep.values.size(static_cast<std::int64_t>(axis));
      const std::int64_t place = rest % size;
      row[axis] = sweep.spec.axes[axis] == SweepAxis::set
                      ? sweep.spec.sets[static_cast<std::size_t>(place)].name
                      : std::to_string(place);
      rest /= size;
    }
    row.push_back(format_number(flat[index].item<double>()));
    if (sweep.low.defined()) {
      row.push_back(fmt::format("[{}, {}]",
                                format_number(sweep.low.reshape({-1})[index].item<double>()),
                                format_number(sweep.high.reshape({-1})[index].item<double>())));
    }
    row.push_back(show_estimate(bootstrap(each[index])));
    rows.push_back(std::move(row));
  }
  return columns(titles, rows);
}

std::string sweep_part(const Sweep& sweep, bool shares) {
  std::string text = heading(to_string(sweep.spec));
  if (shares && sweep.values.dim() == 2 && sweep.values.size(1) <= widest_map) {
    text += fmt::format("  rows: {}, columns: {}\n", to_string(sweep.spec.axes[0]),
                        to_string(sweep.spec.axes[1]));
    text += indented(
        heat_map(sweep.values, numbers(sweep.values.size(0)), numbers(sweep.values.size(1))));
    text += "\n";
  }
  text += fmt::format("  Largest of {} sites:\n", sweep.values.numel()) + leading(sweep);
  if (!sweep.absent.empty()) {
    std::vector<std::string> layers;
    for (const int layer : sweep.absent) layers.push_back(std::to_string(layer));
    text += wrap(fmt::format("Layers without this site: {}.", list_of(layers)));
  }
  if (!sweep.not_finite.empty()) {
    std::vector<std::string> named = sweep.not_finite;
    const std::size_t all = named.size();
    if (all > 10) named.resize(10);
    text += wrap(fmt::format("The metric is not finite at {} sites: {}{}.", all, list_of(named),
                             all > named.size() ? ", and others" : ""));
  }
  return text;
}

}  // namespace

std::string patch_text(const RunInfo& run, const Pairs& pairs, const PatchReport& found) {
  std::string text = show_run(run, nullptr);
  const std::string metric = to_string(found.options.metric);
  text += wrap(found.paired
                   ? fmt::format("{} pairs of {} tokens. Metric {}: clean {}, corrupt {}.",
                                 pairs.count(), pairs.length(), metric,
                                 show_estimate(found.clean_mean), show_estimate(found.corrupt_mean))
                   : fmt::format("{} prompts of {} tokens. Metric {}: {}.", pairs.count(),
                                 pairs.length(), metric, show_estimate(found.clean_mean)),
               0, 0);
  for (const std::string& line : patch_conventions(found)) text += wrap(line, 0, 0);
  const bool shares = found.paired && !found.options.raw;
  for (const Sweep& sweep : found.sweeps) text += sweep_part(sweep, shares);
  text += fmt::format("\n  {} token-layer evaluations; one forward pass for each site: {}\n",
                      show_count(found.evaluations), show_count(found.naive_evaluations));
  return text + show_end(run, found.evaluations);
}

}  // namespace plumb
