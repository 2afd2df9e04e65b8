#include "model/tiling.h"

#include <algorithm>
#include <bit>

namespace plumb {
namespace {

// Rows of a tile's matrix products. The more there are, the less packing the weights costs beside
// the product itself; but a batch too small for a few such tiles is cut finer, into two or four of
// at least 32 rows, so that several cores have equal work.
constexpr std::int64_t rows_per_tile = 768;
constexpr std::int64_t fewest_rows = 32;
constexpr std::uint64_t tiles_wanted = 4;

}  // namespace

Tiling::Tiling(std::int64_t batch, std::int64_t length, bool whole) : batch_(batch) {
  const auto rows = batch * length;
  const auto by_size = (rows + rows_per_tile - 1) / rows_per_tile;
  const auto by_count = static_cast<std::int64_t>(
      std::min(tiles_wanted, std::bit_floor(static_cast<std::uint64_t>(rows / fewest_rows))));
  const auto wanted = whole ? 1 : std::clamp<std::int64_t>(std::max(by_size, by_count), 1, batch);
  size_ = (batch + wanted - 1) / wanted;
}

std::int64_t Tiling::sequences(std::int64_t tile) const {
  return std::min(size_, batch_ - first(tile));
}

std::int64_t Tiling::tiles_in(std::int64_t sequences) const {
  return sequences <= 0 ? count() : std::clamp<std::int64_t>(sequences / size_, 1, count());
}

Plan within(const Model& model, const Plan& plan) {
  if (model.whole() || plan.until) return plan;
  Plan bounded = plan;
  bounded.until = model.config().layers;
  return bounded;
}

bool needs_logits(const Plan& plan) {
  const auto after_norm = [](const auto& item) {
    return item.site.part == Part::logits || item.site.part == Part::final_scale;
  };
  return plan.logits == Logits::all || std::ranges::any_of(plan.interventions, after_norm) ||
         std::ranges::any_of(plan.record, after_norm);
}

}  // namespace plumb
