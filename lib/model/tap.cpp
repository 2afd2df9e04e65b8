#include "model/tap.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "plumb/error.h"

namespace plumb {

namespace {

const std::vector<std::int64_t>& indices_of(Axis axis, const Slice& where) {
  static const std::vector<std::int64_t> all;
  switch (axis) {
    case Axis::head:
    case Axis::kv_head: return where.heads;
    case Axis::position:
    case Axis::query: return where.positions;
    case Axis::key: return where.keys;
    case Axis::expert: return where.experts;
    case Axis::d_head:
    case Axis::d_model:
    case Axis::d_mlp:
    case Axis::vocab: return where.units;
    case Axis::batch:
    case Axis::scale: return all;
  }
  return all;
}

bool is_range(const std::vector<std::int64_t>& indices) {
  for (std::size_t i = 1; i < indices.size(); ++i) {
    if (indices[i] != indices[i - 1] + 1) return false;
  }
  return true;
}

at::Tensor index_tensor(const std::vector<std::int64_t>& indices, at::Device device) {
  return at::tensor(indices, at::kLong).to(device);
}

// Whether query q may not see key k: true everywhere but on the diagonal. Shape of the sliced
// scores.
at::Tensor off_diagonal(const at::Tensor& value, const Slice& where) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(value.device());
  const auto axis = [&](const std::vector<std::int64_t>& chosen, std::int64_t size) {
    return chosen.empty() ? at::arange(size, options) : index_tensor(chosen, value.device());
  };
  const at::Tensor queries = axis(where.positions, value.size(2));
  const at::Tensor keys = axis(where.keys, value.size(3));
  return queries.unsqueeze(1).ne(keys.unsqueeze(0));
}

// `value` with the selected entries replaced.
at::Tensor replace(const at::Tensor& value, Part part, const Slice& where, const at::Tensor& with) {
  if (where.whole()) return with.expand_as(value);
  const auto names = axes(part);
  bool ranges = true;
  for (const Axis axis : names) ranges = ranges && is_range(indices_of(axis, where));
  at::Tensor result = value.clone();
  if (ranges) {
    select(result, part, where).copy_(with);
    return result;
  }
  const auto rank = static_cast<std::int64_t>(names.size());
  std::vector<at::Tensor> grid;
  std::vector<std::int64_t> sizes;
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    const auto& chosen = indices_of(names[static_cast<std::size_t>(axis)], where);
    const at::Tensor index =
        chosen.empty() ? at::arange(value.size(axis),
                                    at::TensorOptions().dtype(at::kLong).device(value.device()))
                       : index_tensor(chosen, value.device());
    sizes.push_back(index.size(0));
    std::vector<std::int64_t> shape(static_cast<std::size_t>(rank), 1);
    shape[static_cast<std::size_t>(axis)] = -1;
    grid.push_back(index.view(shape));
  }
  // One flat index per selected entry.
  at::Tensor flat = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(value.device()));
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    flat = flat * value.size(axis) + grid[static_cast<std::size_t>(axis)];
  }
  return result.view({-1})
      .index_copy(0, flat.reshape({-1}), with.expand(sizes).reshape({-1}))
      .view(value.sizes());
}

}  // namespace

at::Tensor select(const at::Tensor& value, Part part, const Slice& where) {
  if (where.whole()) return value;
  at::Tensor result = value;
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    if (const auto& chosen = indices_of(axis, where); !chosen.empty()) {
      result = is_range(chosen)
                   ? result.narrow(dim, chosen.front(), static_cast<std::int64_t>(chosen.size()))
                   : result.index_select(dim, index_tensor(chosen, value.device()));
    }
    ++dim;
  }
  return result;
}

Tap::Tap(const Plan& plan, const Tile& tile, std::int64_t batch) : tile_(tile), batch_(batch) {
  for (const auto& intervention : plan.interventions) {
    work_[intervention.site].interventions.push_back(&intervention);
  }
  for (const auto& record : plan.record) work_[record.site].records.push_back(&record);
}

bool Tap::edits(Site site) const {
  const auto found = work_.find(site);
  return found != work_.end() && !found->second.interventions.empty();
}

const std::vector<const Record*>& Tap::records(Site site) const {
  static const std::vector<const Record*> none;
  const auto found = work_.find(site);
  return found == work_.end() ? none : found->second.records;
}

void Tap::keep(const Record& record, const at::Tensor& value) {
  if (!value.defined() || value.dim() == 0 || value.size(0) != tile_.ids.size(0)) {
    throw Error(ErrorKind::bad_shape,
                fmt::format("the reduction \"{}\" of {} must keep the batch as its first axis",
                            record.label, to_string(record.site)));
  }
  // A view would keep the whole tensor alive.
  const bool view =
      value.storage().nbytes() > static_cast<std::size_t>(value.numel()) * value.element_size();
  cache_.put(record.site, record.label, view ? value.contiguous().clone() : value);
}

// This tile's part of a tensor that belongs to an edit, in the arithmetic of the run.
at::Tensor Tap::own(const at::Tensor& tensor, const at::Tensor& selected) const {
  at::Tensor part = tensor;
  if (tensor.dim() == selected.dim() && tensor.size(0) == batch_ && batch_ > 1) {
    part = tensor.narrow(0, tile_.first, selected.size(0));
  }
  return part.to(selected.options());
}

at::Tensor Tap::apply(const Intervention& intervention, const at::Tensor& value) const {
  const Part part = intervention.site.part;
  const Slice& where = intervention.where;
  const at::Tensor old = select(value, part, where);
  struct Visitor {
    const Tap& tap;
    const at::Tensor& old;
    const at::Tensor& value;
    const Intervention& intervention;

    at::Tensor operator()(const Zero&) const { return at::zeros_like(old); }
    at::Tensor operator()(const Put& edit) const { return tap.own(edit.value, old).expand_as(old); }
    at::Tensor operator()(const Add& edit) const { return old + tap.own(edit.delta, old); }
    at::Tensor operator()(const Scale& edit) const { return old * edit.factor; }
    at::Tensor operator()(const ProjectOut& edit) const {
      at::Tensor unit = edit.direction.to(old.options());
      unit = unit / unit.norm();
      return old - (old * unit).sum(-1, true) * unit;
    }
    at::Tensor operator()(const ClampNorm& edit) const {
      const at::Tensor length = at::linalg_vector_norm(old, 2, c10::IntArrayRef{-1}, true);
      return old * (tap.own(edit.norm, old) / length);
    }
    at::Tensor operator()(const Hide&) const {
      return old.masked_fill(off_diagonal(value, intervention.where),
                             -std::numeric_limits<double>::infinity());
    }
    at::Tensor operator()(const OnlySelf&) const {
      Slice queries = intervention.where;
      queries.keys.clear();
      return old.masked_fill(off_diagonal(value, queries),
                             -std::numeric_limits<double>::infinity());
    }
    at::Tensor operator()(const Custom& edit) const {
      at::Tensor result = edit.fn(old);
      if (!result.defined() || result.sizes() != old.sizes()) {
        throw Error(
            ErrorKind::bad_shape,
            fmt::format("the edit \"{}\" at {} must return a tensor of the shape it was given",
                        edit.label, to_string(intervention.site)));
      }
      return result;
    }
  };
  return replace(value, part, where,
                 std::visit(Visitor{*this, old, value, intervention}, intervention.edit));
}

at::Tensor Tap::edit(Site site, const at::Tensor& value) const {
  const auto found = work_.find(site);
  if (found == work_.end()) return value;
  found->second.met = true;
  at::Tensor current = value;
  for (const auto* intervention : found->second.interventions)
    current = apply(*intervention, current);
  return current;
}

at::Tensor Tap::operator()(Site site, const at::Tensor& value) {
  const auto found = work_.find(site);
  if (found == work_.end()) return value;
  at::Tensor current = edit(site, value);
  for (const auto* record : found->second.records) {
    const at::Tensor kept = select(current, site.part, record->where);
    keep(*record, record->reduce ? record->reduce(kept, tile_) : kept);
  }
  return current;
}

Cache Tap::take() {
  for (const auto& [site, work] : work_) {
    if (work.interventions.empty() || work.met) continue;
    throw Error(ErrorKind::internal,
                fmt::format("the edit at {} was never reached", to_string(site)));
  }
  return std::move(cache_);
}

}  // namespace plumb
