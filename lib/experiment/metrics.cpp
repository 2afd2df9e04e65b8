#include "plumb/metrics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/precision.h"
#include "core/random.h"
#include "experiment/bootstrap.h"
#include "plumb/streamed.h"

namespace plumb {

namespace {

constexpr double fewest_resamples = 2000;
constexpr double most_resamples = 100'000;
constexpr double resamples_beyond = 10;  // a bound, where the interval is wider than usual
constexpr double usual_tail = 0.025;

// Rows of logits whose probabilities are held at once: a vocabulary is wide.
constexpr std::int64_t loss_rows = 64;

// Of logits [n, vocab] and targets [n, 1]: [n].
at::Tensor loss_of(const at::Tensor& rows, const at::Tensor& targets) {
  const at::Tensor right = widened(rows.gather(1, targets).squeeze(1));
  std::vector<at::Tensor> totals;
  for (std::int64_t first = 0; first < rows.size(0); first += loss_rows) {
    const auto count = std::min(loss_rows, rows.size(0) - first);
    totals.push_back(widened(rows.narrow(0, first, count)).logsumexp({1}));
  }
  if (totals.empty()) return at::zeros({0}, right.options());
  return at::cat(totals) - right;
}

}  // namespace

at::Tensor token_loss(const at::Tensor& logits, const at::Tensor& ids) {
  const auto predicted = logits.size(1) - 1;
  const at::Tensor targets = ids.narrow(1, 1, predicted).reshape({-1, 1});
  return loss_of(logits.narrow(1, 0, predicted).reshape({-1, logits.size(2)}), targets)
      .view({logits.size(0), predicted});
}

at::Tensor logit_diff(const at::Tensor& logits, const at::Tensor& positions,
                      const at::Tensor& right, const at::Tensor& wrong) {
  const at::Tensor sequences = at::arange(logits.size(0), positions.options());
  const at::Tensor rows = logits.index({sequences, positions});
  return widened(rows.gather(1, right.unsqueeze(1)).squeeze(1)) -
         widened(rows.gather(1, wrong.unsqueeze(1)).squeeze(1));
}

Record record_loss(std::int64_t skip) {
  EachPosition loss;
  // The ids go one position further than the logits: the loss of the last one is left out below.
  loss.at = [](const at::Tensor& logits, const at::Tensor& ids) {
    const at::Tensor targets = ids.narrow(1, 1, logits.size(1)).reshape({-1, 1});
    return loss_of(logits.reshape({-1, logits.size(2)}), targets).view({ids.size(0), -1});
  };
  loss.then = [skip](const at::Tensor& each, const Tile& tile) {
    const at::Tensor loss = each.narrow(1, 0, each.size(1) - 1).to(at::kDouble);
    const at::Tensor index = at::arange(loss.size(1), tile.lengths.options()).unsqueeze(0);
    const at::Tensor counted =
        index.ge(skip).logical_and(index < tile.lengths.unsqueeze(1) - 1).to(at::kDouble);
    return (loss * counted).sum(1) / counted.sum(1);
  };
  return {Site{Part::logits}, "loss", loss};
}

Estimate bootstrap_at(double tail, const std::vector<double>& values, std::uint64_t seed) {
  if (values.empty()) return {std::nan(""), std::nan(""), std::nan("")};
  const auto count = static_cast<std::int64_t>(values.size());
  const double mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(count);
  Random random(seed);
  const auto resamples = static_cast<std::size_t>(
      std::clamp(std::ceil(resamples_beyond / tail), fewest_resamples, most_resamples));
  std::vector<double> means(resamples);
  for (auto& resampled : means) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; ++i)
      sum += values[static_cast<std::size_t>(random.below(count))];
    resampled = sum / static_cast<double>(count);
  }
  std::ranges::sort(means);
  const auto at_share = [&](double share) {
    return means[static_cast<std::size_t>(std::lround(share * static_cast<double>(resamples - 1)))];
  };
  return {mean, at_share(tail), at_share(1.0 - tail)};
}

Estimate bootstrap(const std::vector<double>& values, std::uint64_t seed) {
  return bootstrap_at(usual_tail, values, seed);
}

Estimate bootstrap(const at::Tensor& values, std::uint64_t seed) {
  const at::Tensor flat = values.to(at::kDouble).cpu().contiguous().view({-1});
  const auto* data = flat.data_ptr<double>();
  return bootstrap(std::vector<double>(data, data + flat.numel()), seed);
}

}  // namespace plumb
