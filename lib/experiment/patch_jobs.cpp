#include "experiment/patch_jobs.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace plumb {
namespace {

// Live positions of one tile, packed into one matrix: enough that reading the weights costs little
// beside the product, few enough that the jobs of an experiment keep all cores busy to its end.
constexpr std::int64_t rows_per_job = 1024;

std::int64_t size_of(SweepAxis axis, const SweepSpec& spec, const ModelConfig& config,
                     std::int64_t length) {
  switch (axis) {
    case SweepAxis::layer: return config.layers;
    case SweepAxis::position: return length;
    case SweepAxis::head: return heads_of(spec.part, config);
  }
  return 0;
}

using Numbered = std::pair<PatchItem, std::int64_t>;

// The items of each layer with their places in the sweep, in the order of their positions.
std::vector<std::vector<Numbered>> items_by_layer(const SweepSpec& spec, const ModelConfig& config,
                                                  std::int64_t length) {
  const std::vector<std::int64_t> shape = sweep_shape(spec, config, length);
  const std::int64_t total =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  std::vector<std::vector<Numbered>> by_layer(static_cast<std::size_t>(config.layers));
  for (std::int64_t index = 0; index < total; ++index) {
    PatchItem item;
    std::int64_t rest = index;
    std::int64_t layer = 0;
    for (std::size_t axis = spec.axes.size(); axis-- > 0;) {
      const std::int64_t place = rest % shape[axis];
      rest /= shape[axis];
      if (spec.axes[axis] == SweepAxis::layer) layer = place;
      if (spec.axes[axis] == SweepAxis::position) item.position = place;
      if (spec.axes[axis] == SweepAxis::head) item.head = place;
    }
    by_layer[static_cast<std::size_t>(layer)].emplace_back(item, index);
  }
  for (auto& items : by_layer) {
    std::ranges::stable_sort(items, {}, [](const Numbered& entry) { return entry.first.from(); });
  }
  return by_layer;
}

}  // namespace

std::vector<PairRange> pair_groups(std::int64_t pairs, std::int64_t length) {
  const std::int64_t size = std::max<std::int64_t>(1, rows_per_job / length);
  std::vector<PairRange> groups;
  for (std::int64_t first = 0; first < pairs; first += size)
    groups.push_back({.first = first, .count = std::min(size, pairs - first)});
  return groups;
}

std::vector<PatchJob> patch_jobs(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                 const std::vector<PairRange>& groups, std::int64_t length) {
  std::vector<PatchJob> jobs;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    for (std::size_t sweep = 0; sweep < sweeps.size(); ++sweep) {
      const auto by_layer = items_by_layer(sweeps[sweep], config, length);
      for (int layer = 0; layer < config.layers; ++layer) {
        bool fresh = true;
        for (const auto& [item, index] : by_layer[static_cast<std::size_t>(layer)]) {
          const std::int64_t rows = groups[group].count * (length - item.from());
          if (fresh || jobs.back().rows + rows > rows_per_job) {
            jobs.push_back({.group = group, .sweep = sweep, .layer = layer});
            fresh = false;
          }
          jobs.back().items.push_back(item);
          jobs.back().index.push_back(index);
          jobs.back().rows += rows;
        }
      }
    }
  }
  return jobs;
}

std::vector<std::int64_t> sweep_shape(const SweepSpec& spec, const ModelConfig& config,
                                      std::int64_t length) {
  std::vector<std::int64_t> shape;
  for (const SweepAxis axis : spec.axes) shape.push_back(size_of(axis, spec, config, length));
  return shape;
}

std::string site_name(const SweepSpec& spec, int layer, const PatchItem& item) {
  SlicedSite site{.site = {spec.part, layer}};
  if (item.position >= 0) site.slice.positions = {item.position};
  if (item.head >= 0) site.slice.heads = {item.head};
  return to_string(site);
}

}  // namespace plumb
