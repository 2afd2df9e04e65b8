#include "experiment/edge_sums.h"

#include <ATen/ATen.h>

#include <utility>

namespace plumb {

EdgeSums::EdgeSums(std::int64_t tiles, const EdgeOptions& options)
    : each_(options.each),
      by_position_(options.by_position),
      tiles_(static_cast<std::size_t>(tiles)) {}

void EdgeSums::add(std::int64_t tile, EdgeTile found) {
  const std::lock_guard guard(lock_);
  tiles_[static_cast<std::size_t>(tile)] = std::move(found);
  for (; added_ < tiles_.size() && tiles_[added_].sums.defined(); ++added_) {
    at::Tensor& sums = tiles_[added_].sums;
    const std::int64_t rows = by_position_ ? sums.size(0) : 1;
    if (!total_.defined()) total_ = at::zeros({rows, sums.size(1)}, at::kDouble);
    for (std::int64_t row = 0; row < sums.size(0); row += rows)
      total_.add_(sums.narrow(0, row, rows));
    if (!each_) sums = at::Tensor();
  }
}

void EdgeSums::finish(EdgeReport& report, std::int64_t pairs) {
  std::vector<at::Tensor> each;
  std::vector<at::Tensor> clean;
  std::vector<at::Tensor> corrupt;
  for (const EdgeTile& tile : tiles_) {
    clean.push_back(tile.clean);
    corrupt.push_back(tile.corrupt);
    report.evaluations += tile.evaluations;
    report.backwards += tile.backwards;
    if (each_) each.push_back(tile.sums);
  }
  if (each_) report.each = at::cat(each);
  report.clean = at::cat(clean);
  report.corrupt = at::cat(corrupt);
  report.clean_mean = bootstrap(report.clean);
  report.corrupt_mean = bootstrap(report.corrupt);
  total_.div_(static_cast<double>(pairs));
  report.scores.values = by_position_ ? total_ : total_.select(0, 0);
}

void add_up(EdgeReport& report, std::vector<EdgeTile> tiles, std::int64_t pairs) {
  EdgeSums sums(std::ssize(tiles), report.options);
  for (std::size_t tile = 0; tile < tiles.size(); ++tile)
    sums.add(static_cast<std::int64_t>(tile), std::move(tiles[tile]));
  sums.finish(report, pairs);
}

}  // namespace plumb
