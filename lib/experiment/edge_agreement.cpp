// How far two sets of edge scores agree.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include "experiment/correlation.h"
#include "plumb/attribute.h"
#include "plumb/error.h"

namespace plumb {
namespace {

std::vector<std::size_t> by_size(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t x, std::size_t y) {
    return std::abs(values[x]) > std::abs(values[y]);
  });
  return order;
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
  const std::vector<std::size_t> order_x = by_size(x);
  const std::vector<std::size_t> order_y = by_size(y);
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
