#include "experiment/replacements.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/random.h"
#include "model/tap.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const Replacement& replacement, const Site& site, const std::string& why) {
  throw Error(ErrorKind::bad_argument,
              fmt::format("{} at {}: {}", to_string(replacement), to_string(site), why));
}

void check_kind(const Replacement& replacement, const Site& site) {
  const ReplacementKind kind = replacement.kind;
  const auto among = [&](std::initializer_list<ReplacementKind> kinds) {
    return std::ranges::count(kinds, kind) > 0;
  };
  using enum ReplacementKind;
  if (kind == hide && site.part != Part::scores)
    refuse(replacement, site, "keys are hidden at scores");
  if (site.part == Part::scores && !among({other, mean_batch, resample, hide})) {
    refuse(replacement, site,
           "hidden keys hold -infinity there; expected other, mean-batch, resample or hide");
  }
  if (site.part == Part::pattern && !among({other, zero, mean_batch, resample, scale})) {
    refuse(
        replacement, site,
        "each query sees other keys; expected other, zero, mean-batch, resample or scale:NUMBER");
  }
}

// [B, T] of a tensor's batch and position axes; the position is that of the query where there is
// one.
struct Places {
  std::int64_t dim = 1;   // of the position
  at::Tensor valid = {};  // broadcasts to the tensor
};

Places places(Part part, const at::Tensor& value, const at::Tensor& lengths) {
  Places made;
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    if (axis == Axis::position || axis == Axis::query) made.dim = dim;
    ++dim;
  }
  const at::Tensor index = at::arange(value.size(made.dim), lengths.options());
  std::vector<std::int64_t> shape(static_cast<std::size_t>(value.dim()), 1);
  shape.front() = value.size(0);
  shape[static_cast<std::size_t>(made.dim)] = value.size(made.dim);
  made.valid = (index.unsqueeze(0) < lengths.unsqueeze(1)).view(shape);
  return made;
}

at::Tensor mean_of(ReplacementKind kind, Part part, const at::Tensor& value,
                   const at::Tensor& lengths) {
  const Places at = places(part, value, lengths);
  std::vector<std::int64_t> over;
  if (kind != ReplacementKind::mean_position) over.push_back(0);
  if (kind != ReplacementKind::mean_batch) over.push_back(at.dim);
  const at::Tensor counted = at::where(at.valid, value, at::zeros({1}, value.options()));
  const at::Tensor count = at.valid.to(value.scalar_type()).sum(over, true);
  return counted.sum(over, true) / count;
}

// [1, ..., 1, width] of a vector for the site.
at::Tensor vector_for(const Replacement& replacement, const Site& site, const ModelConfig& config) {
  const Axis last = axes(site.part).back();
  const std::int64_t width = last == Axis::d_head    ? config.d_head
                             : last == Axis::d_model ? config.d_model
                             : last == Axis::d_mlp   ? config.d_mlp
                             : last == Axis::expert  ? config.experts.count
                                                     : 1;
  at::Tensor vector = replacement.vector;
  if (vector.dim() == 2) {
    if (vector.size(0) != config.layers) {
      refuse(replacement, site,
             fmt::format("expected a vector for each of {} layers, got {}", config.layers,
                         vector.size(0)));
    }
    vector = vector[site.layer];
  }
  if (!vector.defined() || vector.dim() != 1 || vector.size(0) != width) {
    refuse(replacement, site,
           fmt::format("expected a vector of {} numbers, got {}", width,
                       vector.defined() ? vector.numel() : 0));
  }
  if (replacement.kind == ReplacementKind::project_out && vector.norm().item<double>() == 0.0)
    refuse(replacement, site, "the direction to project out is 0");
  std::vector<std::int64_t> shape(axes(site.part).size(), 1);
  shape.back() = width;
  return vector.view(shape);
}

}  // namespace

at::Tensor donors(std::uint64_t seed, const at::Tensor& lengths) {
  std::map<std::int64_t, std::vector<std::int64_t>> by_length;
  const at::Tensor here = lengths.cpu();
  for (std::int64_t b = 0; b < here.size(0); ++b)
    by_length[here[b].item<std::int64_t>()].push_back(b);
  std::vector<std::int64_t> from(static_cast<std::size_t>(here.size(0)));
  Random random(seed);
  for (const auto& [length, members] : by_length) {
    const auto n = static_cast<std::int64_t>(members.size());
    if (n < 2) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("resample needs at least two prompts of every length, as padding is "
                              "no value to paste; one alone has {} tokens",
                              length));
    }
    // Sattolo's shuffle: a single cycle, so that nobody keeps the own value.
    std::vector<std::int64_t> order = members;
    for (std::int64_t i = n - 1; i > 0; --i)
      std::swap(order[static_cast<std::size_t>(i)],
                order[static_cast<std::size_t>(random.below(i))]);
    for (std::size_t i = 0; i < order.size(); ++i)
      from[static_cast<std::size_t>(members[i])] = order[i];
  }
  return at::tensor(from, at::kLong).to(lengths.device());
}

bool Replacements::needs_other(const Replacement& replacement) {
  return replacement.kind == ReplacementKind::other;
}

bool Replacements::needs_base(const Replacement& replacement) {
  using enum ReplacementKind;
  return replacement.kind == mean || replacement.kind == mean_batch ||
         replacement.kind == mean_position || replacement.kind == resample;
}

Replacements::Replacements(const Replacement& replacement, const std::vector<Site>& sites,
                           const ModelConfig& config, const at::Tensor& lengths, const Cache& base,
                           const Cache& pasted)
    : ablation_(replacement) {
  using enum ReplacementKind;
  at::Tensor from;
  if (replacement.kind == resample) from = donors(replacement.seed, lengths);
  for (const Site& site : sites) {
    check_kind(replacement, site);
    if (whole_.contains(site)) continue;
    switch (replacement.kind) {
      case other: whole_[site] = pasted.at(site); break;
      case mean:
      case mean_batch:
      case mean_position:
        whole_[site] = mean_of(replacement.kind, site.part, base.at(site), lengths);
        break;
      case resample: whole_[site] = base.at(site).index_select(0, from); break;
      case put:
      case add:
      case project_out: whole_[site] = vector_for(replacement, site, config); break;
      case zero:
      case scale:
      case clamp_norm:
      case hide: break;
    }
  }
}

Intervention Replacements::edit(const SlicedSite& at) const {
  using enum ReplacementKind;
  const Part part = at.site.part;
  Intervention made{.site = at.site, .where = at.slice};
  if (ablation_.kind == zero) made.edit = Zero{};
  if (ablation_.kind == scale) made.edit = Scale{ablation_.number};
  if (ablation_.kind == hide) made.edit = Hide{};
  const bool whole_width = at.slice.units.empty();
  if (ablation_.kind == clamp_norm) {
    if (!whole_width) refuse(ablation_, at.site, "it needs the whole last axis");
    made.edit = ClampNorm{at::full({1}, ablation_.number, at::kDouble)};
  }
  const auto found = whole_.find(at.site);
  if (found == whole_.end()) return made;
  if (ablation_.kind == project_out) {
    if (!whole_width) refuse(ablation_, at.site, "it needs the whole last axis");
    made.edit = ProjectOut{found->second.reshape({-1})};
    return made;
  }
  // Axes along which the value is the same everywhere are not cut.
  Slice cut;
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    if (found->second.size(dim++) == 1) continue;
    if (axis == Axis::head || axis == Axis::kv_head) cut.heads = at.slice.heads;
    if (axis == Axis::position || axis == Axis::query) cut.positions = at.slice.positions;
    if (axis == Axis::key) cut.keys = at.slice.keys;
    if (axis == Axis::expert) cut.experts = at.slice.experts;
    if (axis == Axis::d_head || axis == Axis::d_model || axis == Axis::d_mlp)
      cut.units = at.slice.units;
  }
  const at::Tensor value = select(found->second, part, cut);
  if (ablation_.kind == add) {
    made.edit = Add{value};
  } else {
    made.edit = Put{value};
  }
  return made;
}

}  // namespace plumb
