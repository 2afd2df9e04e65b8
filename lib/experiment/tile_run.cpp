#include "experiment/tile_run.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace plumb {
namespace {

constexpr auto pause_while_waiting = std::chrono::milliseconds(2);

}  // namespace

TileRun::TileRun(TileLayout layout, const Tiles& tiles_, Progress progress)
    : layout_(std::move(layout)),
      store_(tiles_.store),
      ranks_(tiles_.ranks),
      progress_(std::move(progress)),
      values_(layout_.sizes.size()) {
  const auto tiles = static_cast<std::int64_t>(layout_.sizes.size());
  const std::int64_t size = ranks_ == nullptr ? 1 : ranks_->size();
  const std::int64_t rank = ranks_ == nullptr ? 0 : ranks_->rank();
  // Which tiles rank 0 has kept, told to all.
  at::Tensor known = at::zeros({tiles}, at::kDouble);
  if (rank == 0 && store_ != nullptr) {
    store_->open(layout_);
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      if (auto kept = store_->find(tile)) {
        values_[static_cast<std::size_t>(tile)] = std::move(*kept);
        known[tile] = 1.0;
      }
    }
  }
  if (ranks_ != nullptr) ranks_->share(known);
  std::int64_t turn = 0;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    if (known[tile].item<double>() != 0.0) continue;
    if (turn++ % size == rank) mine_.push_back(tile);
  }
  finished_ = rank == 0 ? tiles - turn : 0;
  expected_ = rank == 0 ? tiles : static_cast<std::int64_t>(mine_.size());
}

std::vector<std::int64_t> TileRun::mine(std::int64_t first, std::int64_t last) const {
  return {std::ranges::lower_bound(mine_, first), std::ranges::lower_bound(mine_, last)};
}

void TileRun::done(std::int64_t tile, const at::Tensor& values, std::string_view what) {
  const std::lock_guard guard(lock_);
  if (ranks_ != nullptr && ranks_->rank() > 0) {
    ranks_->send(tile, values);
    ++finished_;
  } else {
    put(tile, values);
    collect();
  }
  tell(what);
}

std::vector<at::Tensor> TileRun::finish() {
  if (ranks_ == nullptr || ranks_->size() == 1) return std::move(values_);
  if (ranks_->rank() == 0) {
    while (finished_ < expected_) {
      collect();
      tell("waiting for the other ranks");
      std::this_thread::sleep_for(pause_while_waiting);
    }
  }
  at::Tensor all;
  if (ranks_->rank() == 0) {
    all = at::cat(values_);
  } else {
    std::int64_t total = 0;
    for (const std::int64_t size : layout_.sizes) total += size;
    all = at::empty({total}, at::kDouble);
  }
  ranks_->share(all);
  std::int64_t first = 0;
  for (std::size_t tile = 0; tile < values_.size(); ++tile) {
    values_[tile] = all.narrow(0, first, layout_.sizes[tile]);
    first += layout_.sizes[tile];
  }
  return std::move(values_);
}

void TileRun::put(std::int64_t tile, const at::Tensor& values) {
  const at::Tensor flat = values.reshape({-1}).to(at::kDouble).contiguous();
  if (store_ != nullptr) store_->keep(tile, flat);
  values_[static_cast<std::size_t>(tile)] = flat;
  ++finished_;
}

void TileRun::collect() {
  if (ranks_ == nullptr) return;
  while (auto arrived = ranks_->receive()) put(arrived->first, arrived->second);
}

void TileRun::tell(std::string_view what) {
  if (progress_ && expected_ > 0)
    progress_(what, static_cast<double>(finished_) / static_cast<double>(expected_));
}

}  // namespace plumb
