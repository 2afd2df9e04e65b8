// How far two sets of edge scores agree.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include "plumb/attribute.h"
#include "plumb/error.h"

namespace plumb {
namespace {

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0.0;
  double aa = 0.0;
  double bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : std::nan("");
}

std::vector<std::size_t> order_of(const std::vector<double>& values, bool by_size) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t x, std::size_t y) {
    return by_size ? std::abs(values[x]) > std::abs(values[y]) : values[x] < values[y];
  });
  return order;
}

std::vector<double> ranks(const std::vector<double>& values) {
  const std::vector<std::size_t> order = order_of(values, false);
  std::vector<double> made(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t end = first;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    for (std::size_t i = first; i < end; ++i)
      made[order[i]] = static_cast<double>(first + end - 1) / 2.0;
    first = end;
  }
  return made;
}

}  // namespace

EdgeAgreement compare(const EdgeScores& a, const EdgeScores& b, std::int64_t top) {
  if (!(a.space == b.space) || a.values.dim() != 1 || b.values.dim() != 1)
    throw Error(ErrorKind::bad_argument,
                "scores are compared edge by edge: of one graph, summed over positions");
  const at::Tensor both = a.values.isfinite().logical_and(b.values.isfinite());
  const auto taken = [&](const at::Tensor& values) {
    const at::Tensor chosen = values.masked_select(both).contiguous();
    const auto* data = chosen.data_ptr<double>();
    return std::vector<double>(data, data + chosen.numel());
  };
  const std::vector<double> x = taken(a.values);
  const std::vector<double> y = taken(b.values);
  EdgeAgreement found{.edges = static_cast<std::int64_t>(x.size())};
  found.top = std::min(top, found.edges);
  if (found.edges == 0) return {.pearson = std::nan(""), .spearman = std::nan("")};
  found.pearson = correlation(x, y);
  found.spearman = correlation(ranks(x), ranks(y));
  const std::vector<std::size_t> order_x = order_of(x, true);
  const std::vector<std::size_t> order_y = order_of(y, true);
  const std::set<std::size_t> first(order_x.begin(), order_x.begin() + found.top);
  const auto shared = std::count_if(order_y.begin(), order_y.begin() + found.top,
                                    [&](std::size_t edge) { return first.contains(edge); });
  if (found.top > 0) found.overlap = static_cast<double>(shared) / static_cast<double>(found.top);
  return found;
}

std::vector<std::int64_t> strongest_edges(const EdgeScores& scores, std::int64_t count) {
  const at::Tensor values =
      (scores.values.dim() == 1 ? scores.values : scores.values.sum(0)).abs().contiguous();
  const std::int64_t known = values.isfinite().sum().item<std::int64_t>();
  const at::Tensor order = std::get<1>(at::sort(values.nan_to_num(-1.0, -1.0, -1.0),
                                                /*stable=*/true, 0, /*descending=*/true));
  const auto* edges = order.data_ptr<std::int64_t>();
  return {edges, edges + std::clamp<std::int64_t>(count, 0, known)};
}

void check_edges(EdgeReport& report, const Model& model, const Pairs& pairs, std::int64_t count,
                 const Progress& progress) {
  const std::vector<std::int64_t> order =
      strongest_edges(report.scores, report.scores.space.edges());
  const auto all = static_cast<std::int64_t>(order.size());
  const std::int64_t first = std::min(all, (count + 1) / 2);
  const std::int64_t rest = std::min(all - first, count - first);
  EdgeOptions options{.method = EdgeMethod::exact};
  options.only.assign(order.begin(), order.begin() + first);
  for (std::int64_t i = 0; i < rest; ++i)
    options.only.push_back(order[static_cast<std::size_t>(first + i * (all - first) / rest)]);
  const EdgeScores exact = attribute_edges(model, pairs, report.metric, options, progress);
  EdgeScores summed = report.scores;
  if (summed.values.dim() == 2) summed.values = summed.values.sum(0);
  report.agreement = compare(summed, exact, std::max<std::int64_t>(1, (first + rest) / 10));
}

}  // namespace plumb
