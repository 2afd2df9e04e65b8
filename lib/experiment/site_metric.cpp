// Metrics of a site of a block: attention on keys, norms, projections.
#include <ATen/ATen.h>

#include <algorithm>

#include "experiment/patch_metric.h"
#include "model/tap.h"

namespace plumb {
namespace {

at::Tensor chosen_positions(const Slice& slice, std::int64_t T, const at::Tensor& like) {
  return slice.positions.empty() ? at::arange(T, like.options())
                                 : at::tensor(slice.positions, at::kLong).to(like.device());
}

}  // namespace

at::Tensor site_metric(const Metric& metric, const at::Tensor& value, const at::Tensor& lengths) {
  const Slice& slice = metric.site.slice;
  const Part part = metric.site.site.part;
  const at::Tensor selected = select(value, part, slice).to(at::kDouble);
  std::int64_t dim = 0;
  std::int64_t at_position = 1;
  for (const Axis axis : axes(part)) {
    if (axis == Axis::position || axis == Axis::query) at_position = dim;
    ++dim;
  }
  const at::Tensor positions = chosen_positions(slice, value.size(at_position), lengths);
  at::Tensor counted = positions.unsqueeze(0) < lengths.unsqueeze(1);  // [N, positions]
  at::Tensor numbers;  // the site's axes but the last
  switch (metric.kind) {
    case MetricKind::attention:
      numbers = selected.sum(-1);
      // A key's own query, and those before it, say nothing of what it draws.
      if (slice.positions.empty())
        counted = counted.logical_and(positions > *std::ranges::max_element(slice.keys));
      break;
    case MetricKind::projection: {
      const at::Tensor direction = metric.direction.to(selected.options());
      numbers = (selected * (direction / direction.norm())).sum(-1);
      break;
    }
    default: numbers = at::linalg_vector_norm(selected, 2, c10::IntArrayRef{-1}, false); break;
  }
  std::vector<std::int64_t> shape(static_cast<std::size_t>(numbers.dim()), 1);
  shape.front() = counted.size(0);
  shape[static_cast<std::size_t>(at_position)] = counted.size(1);
  const at::Tensor mask = counted.view(shape);
  const at::Tensor kept = at::where(mask, numbers, at::zeros({1}, numbers.options()));
  const at::Tensor count = mask.expand_as(numbers).to(at::kDouble);
  return kept.flatten(1).sum(1) / count.flatten(1).sum(1);
}

}  // namespace plumb
