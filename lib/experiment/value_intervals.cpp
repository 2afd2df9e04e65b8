#include "experiment/value_intervals.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/random.h"

namespace plumb {
namespace {

// As of `bootstrap`.
constexpr std::int64_t resamples = 2000;
constexpr double tail = 0.025;
constexpr std::int64_t sites_at_once = 512;

}  // namespace

at::Tensor bootstrap_shares(std::int64_t B) {
  at::Tensor counts = at::zeros({resamples, B}, at::kDouble);
  auto* const count = counts.data_ptr<double>();
  Random random(0);
  for (std::int64_t resample = 0; resample < resamples; ++resample) {
    for (std::int64_t i = 0; i < B; ++i) count[resample * B + random.below(B)] += 1.0;
  }
  return counts / static_cast<double>(B);
}

Estimate middle_of(double mean, const at::Tensor& samples) {
  const at::Tensor sorted = std::get<0>(samples.to(at::kDouble).sort(0));
  const auto last = static_cast<double>(sorted.size(0) - 1);
  const auto at = [&](double share) { return sorted[std::lround(share * last)].item<double>(); };
  return {mean, at(tail), at(1.0 - tail)};
}

std::pair<at::Tensor, at::Tensor> value_intervals(const at::Tensor& each, const at::Tensor& from,
                                                  const at::Tensor& to) {
  const at::Tensor weights = bootstrap_shares(each.size(1));
  const at::Tensor start = from.defined() ? at::mv(weights, from).unsqueeze(1) : at::Tensor();
  const at::Tensor range = to.defined() ? at::mv(weights, to).unsqueeze(1) - start : at::Tensor();
  std::vector<at::Tensor> low;
  std::vector<at::Tensor> high;
  const auto rank = [](double share) { return std::lround(share * (resamples - 1)); };
  for (std::int64_t first = 0; first < each.size(0); first += sites_at_once) {
    const at::Tensor own = each.narrow(0, first, std::min(sites_at_once, each.size(0) - first));
    at::Tensor means = at::mm(weights, own.t());
    if (start.defined()) means = means - start;
    if (range.defined()) means = means / range;
    const at::Tensor sorted = std::get<0>(means.sort(0));
    low.push_back(sorted[rank(tail)]);
    high.push_back(sorted[rank(1.0 - tail)]);
  }
  return {at::cat(low), at::cat(high)};
}

}  // namespace plumb
