#include "experiment/patch_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "plumb/error.h"
#include "plumb/model.h"

namespace plumb {
namespace {

// Live positions of one tile, packed into one matrix: enough that reading the weights costs little
// beside the product, few enough that the jobs of an experiment keep all cores busy to its end.
constexpr std::int64_t rows_per_job = 1024;

std::int64_t size_of(SweepAxis axis, const SweepSpec& spec, const ModelConfig& config,
                     std::int64_t T) {
  switch (axis) {
    case SweepAxis::layer: return config.layers;
    case SweepAxis::head:
      return std::ranges::count(axes(spec.part), Axis::kv_head) > 0 ? config.kv_heads
                                                                    : config.heads;
    case SweepAxis::neuron: return config.d_mlp;
    case SweepAxis::expert: return config.experts.count;
    case SweepAxis::position:
    case SweepAxis::query:
    case SweepAxis::key: return T;
    case SweepAxis::set: return static_cast<std::int64_t>(spec.sets.size());
  }
  return 0;
}

std::int64_t first_position(const SiteSet& set) {
  std::int64_t first = -1;
  for (const SlicedSite& site : set.sites) {
    const auto& positions = site.slice.positions;
    const std::int64_t own = positions.empty() ? 0 : *std::ranges::min_element(positions);
    first = first < 0 ? own : std::min(first, own);
  }
  return std::max<std::int64_t>(first, 0);
}

int first_layer(const SiteSet& set) {
  int first = set.sites.front().site.layer;
  for (const SlicedSite& site : set.sites) first = std::min(first, site.site.layer);
  return first;
}

struct Placed {
  int layer = 0;
  PatchItem item = {};
};

Placed item_at(std::int64_t index, const SweepSpec& spec, const std::vector<std::int64_t>& shape) {
  Placed placed;
  placed.item.index = index;
  std::int64_t rest = index;
  for (std::size_t axis = spec.axes.size(); axis-- > 0;) {
    const std::int64_t place = rest % shape[axis];
    rest /= shape[axis];
    switch (spec.axes[axis]) {
      case SweepAxis::layer: placed.layer = static_cast<int>(place); break;
      case SweepAxis::position:
      case SweepAxis::query: placed.item.position = place; break;
      case SweepAxis::head: placed.item.head = place; break;
      case SweepAxis::neuron: placed.item.unit = place; break;
      case SweepAxis::expert: placed.item.expert = place; break;
      case SweepAxis::key: placed.item.key = place; break;
      case SweepAxis::set: placed.item.set = place; break;
    }
  }
  if (placed.item.set >= 0) {
    const SiteSet& set = spec.sets[static_cast<std::size_t>(placed.item.set)];
    placed.layer = first_layer(set);
    placed.item.from = first_position(set);
  } else {
    placed.item.from = std::max<std::int64_t>(placed.item.position, 0);
  }
  return placed;
}

// The items of each layer that has the site, in the order of their positions.
std::vector<std::vector<PatchItem>> items_by_layer(const SweepSpec& spec, const ModelConfig& config,
                                                   std::int64_t T) {
  const std::vector<std::int64_t> shape = sweep_shape(spec, config, T);
  const std::int64_t total =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  std::vector<std::vector<PatchItem>> by_layer(static_cast<std::size_t>(config.layers));
  for (std::int64_t index = 0; index < total; ++index) {
    const Placed placed = item_at(index, spec, shape);
    if (spec.sets.empty() && !has_part(config, spec.part, placed.layer)) continue;
    by_layer[static_cast<std::size_t>(placed.layer)].push_back(placed.item);
  }
  for (auto& items : by_layer) std::ranges::stable_sort(items, {}, &PatchItem::from);
  return by_layer;
}

}  // namespace

std::int64_t streams_at_once(std::int64_t pairs, std::int64_t T) {
  return std::max<std::int64_t>(1, rows_per_job / (pairs * T));
}

std::int64_t axis_size(Axis axis, const ModelConfig& config, std::int64_t T) {
  switch (axis) {
    case Axis::position:
    case Axis::query:
    case Axis::key: return T;
    case Axis::head: return config.heads;
    case Axis::kv_head: return config.kv_heads;
    case Axis::d_head: return config.d_head;
    case Axis::d_model: return config.d_model;
    case Axis::d_mlp: return config.d_mlp;
    case Axis::expert: return config.experts.count;
    case Axis::vocab: return config.vocab;
    case Axis::batch:
    case Axis::scale: return 1;
  }
  return 1;
}

std::vector<std::int64_t> sweep_shape(const SweepSpec& spec, const ModelConfig& config,
                                      std::int64_t T) {
  std::vector<std::int64_t> shape;
  for (const SweepAxis axis : spec.axes) shape.push_back(size_of(axis, spec, config, T));
  return shape;
}

std::vector<SlicedSite> sites_of(const SweepSpec& spec, int layer, const PatchItem& item) {
  if (item.set >= 0) return spec.sets[static_cast<std::size_t>(item.set)].sites;
  SlicedSite site{.site = {spec.part, layer}};
  if (item.position >= 0) site.slice.positions = {item.position};
  if (item.head >= 0) site.slice.heads = {item.head};
  if (item.unit >= 0) site.slice.units = {item.unit};
  if (item.expert >= 0) site.slice.experts = {item.expert};
  if (item.key >= 0) site.slice.keys = {item.key};
  return {site};
}

std::string name_of(const SweepSpec& spec, int layer, const PatchItem& item) {
  return item.set >= 0 ? spec.sets[static_cast<std::size_t>(item.set)].name
                       : to_string(sites_of(spec, layer, item).front());
}

void check_sweep(const SweepSpec& spec, const ModelConfig& config) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::bad_argument, what); };
  for (const SiteSet& set : spec.sets) {
    if (set.sites.empty()) refuse(fmt::format("the set \"{}\" names no site", set.name));
    for (const SlicedSite& site : set.sites) {
      if (site.site.layer >= config.layers || !has_part(config, site.site.part, site.site.layer)) {
        refuse(fmt::format("set \"{}\": the model has no {}; plumb inspect lists what it has",
                           set.name, to_string(site.site)));
      }
    }
  }
  if (!spec.sets.empty()) return;
  bool anywhere = false;
  for (int layer = 0; layer < config.layers; ++layer)
    anywhere = anywhere || has_part(config, spec.part, layer);
  if (!anywhere) {
    refuse(fmt::format("sweep {}: the model has no {}; plumb inspect lists what it has",
                       to_string(spec), to_string(spec.part)));
  }
}

std::vector<PairRange> pair_groups(std::int64_t pairs, std::int64_t T, bool together) {
  const std::int64_t size = together ? pairs : std::max<std::int64_t>(1, rows_per_job / T);
  std::vector<PairRange> groups;
  for (std::int64_t first = 0; first < pairs; first += size)
    groups.push_back({.first = first, .count = std::min(size, pairs - first)});
  return groups;
}

std::vector<PatchJob> cut_jobs(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                               const std::vector<PairRange>& groups, std::int64_t T) {
  std::vector<std::vector<std::vector<PatchItem>>> items;
  for (const SweepSpec& spec : sweeps) items.push_back(items_by_layer(spec, config, T));
  std::vector<PatchJob> jobs;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    for (std::size_t sweep = 0; sweep < sweeps.size(); ++sweep) {
      for (int layer = 0; layer < config.layers; ++layer) {
        bool fresh = true;
        for (const PatchItem& item : items[sweep][static_cast<std::size_t>(layer)]) {
          const std::int64_t rows = groups[group].count * (T - item.from);
          if (fresh || item.set >= 0 || jobs.back().rows + rows > rows_per_job) {
            jobs.push_back({.group = group, .sweep = sweep, .layer = layer});
            fresh = false;
          }
          jobs.back().items.push_back(item);
          jobs.back().rows += rows;
        }
      }
    }
  }
  return jobs;
}

}  // namespace plumb
