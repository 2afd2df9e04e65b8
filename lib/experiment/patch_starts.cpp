#include "experiment/patch_starts.h"

#include <ATen/ATen.h>

namespace plumb {
namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

// Positions an item changes of a [B, T, ...] tensor.
at::Tensor rows_of(const at::Tensor& whole, const PatchItem& item) {
  return item.position < 0 ? whole : whole.narrow(1, item.position, 1);
}

}  // namespace

std::int64_t heads_of(Part part, const ModelConfig& config) {
  for (const Axis axis : axes(part)) {
    if (axis == Axis::head) return config.heads;
    if (axis == Axis::kv_head) return config.kv_heads;
  }
  return 0;
}

void add_start_records(const std::vector<SweepSpec>& sweeps, const ModelConfig& config, Plan& base,
                       Plan& other) {
  const auto add = [](Plan& plan, Site site) {
    for (const Record& record : plan.record) {
      if (record.site == site) return;
    }
    plan.record.emplace_back(site);
  };
  for (const SweepSpec& sweep : sweeps) {
    for (int layer = 0; layer < config.layers; ++layer) {
      add(other, {sweep.part, layer});
      if (sweep.part == Part::z) add(base, {Part::z, layer});
    }
  }
}

std::vector<std::int64_t> PatchStarts::groups(const std::vector<PatchItem>& items) {
  std::vector<std::int64_t> counts;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i == 0 || items[i].from() != items[i - 1].from()) counts.push_back(0);
    ++counts.back();
  }
  return counts;
}

// The stream's rows that the item changes, with the pasted value in them: where it is pasted into
// the stream itself or into the MLP's write.
at::Tensor PatchStarts::pasted(Part part, int layer, const PatchItem& item) const {
  const at::Tensor value = rows_of(other_.at({part, layer}), item);
  if (part == Part::mlp_out) return rows_of(trunk_.resid_mid[at_layer(layer)], item) + value;
  return value;
}

// The same for what is pasted between attention and MLP.
at::Tensor PatchStarts::changed_mid(Part part, int layer, const PatchItem& item) const {
  if (part == Part::resid_mid) return rows_of(other_.at({part, layer}), item);
  at::Tensor written;
  if (part == Part::attn_out) {
    written = rows_of(other_.at({part, layer}), item);
  } else {
    const at::Tensor value = rows_of(other_.at({Part::z, layer}), item);
    at::Tensor z = value;
    if (item.head >= 0) {
      z = rows_of(base_.at({Part::z, layer}), item).clone();
      z.select(2, item.head).copy_(value.select(2, item.head));
    }
    written = follower_.attn_out(layer, z.reshape({-1, z.size(2), z.size(3)}))
                  .view({z.size(0), z.size(1), -1});
  }
  return rows_of(trunk_.resid_pre[at_layer(layer)], item) + written;
}

// [B, T, d_model]: the stream leaving the block that is run under the edit.
at::Tensor PatchStarts::after_any_edit(Part part, int layer, const PatchItem& item) const {
  Intervention paste{.site = {part, layer}};
  at::Tensor value = other_.at({part, layer});
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    if ((axis == Axis::position || axis == Axis::query) && item.position >= 0) {
      paste.where.positions = {item.position};
      value = value.narrow(dim, item.position, 1);
    }
    if ((axis == Axis::head || axis == Axis::kv_head) && item.head >= 0) {
      paste.where.heads = {item.head};
      value = value.narrow(dim, item.head, 1);
    }
    ++dim;
  }
  paste.edit = Put{value};
  return follower_.block(layer, {paste});
}

std::pair<int, std::vector<Branch>> PatchStarts::make(Part part, int layer,
                                                      const std::vector<PatchItem>& items,
                                                      std::int64_t& evaluations) const {
  const bool into_stream =
      part == Part::resid_pre || part == Part::resid_post || part == Part::mlp_out;
  const bool before_mlp = part == Part::resid_mid || part == Part::attn_out || part == Part::z;
  const int entry = part == Part::resid_pre ? layer : layer + 1;
  const at::Tensor& plain = trunk_.resid_pre[at_layer(entry)];
  const std::int64_t B = plain.size(0);
  const std::int64_t T = plain.size(1);

  // The changed rows of every item, [B, rows, d_model].
  std::vector<at::Tensor> changed;
  for (const PatchItem& item : items) {
    if (into_stream) {
      changed.push_back(pasted(part, layer, item));
    } else if (before_mlp) {
      changed.push_back(changed_mid(part, layer, item));
    } else {
      changed.push_back(after_any_edit(part, layer, item).narrow(1, item.from(), T - item.from()));
      evaluations += B * T;
    }
  }
  if (before_mlp) {
    // One product for all items: their rows through this block's MLP.
    const at::Tensor mid = at::cat(changed, 1);
    at::Tensor added;
    if (config_.parallel) {
      std::vector<at::Tensor> same;
      for (const PatchItem& item : items)
        same.push_back(rows_of(trunk_.mlp_out[at_layer(layer)], item));
      added = at::cat(same, 1);
    } else {
      added = follower_.mlp_out(layer, mid.reshape({-1, mid.size(2)})).view(mid.sizes());
      evaluations += B * mid.size(1);
    }
    const at::Tensor after = mid + added;
    std::int64_t first = 0;
    for (at::Tensor& rows : changed) {
      const std::int64_t count = rows.size(1);
      rows = after.narrow(1, first, count);
      first += count;
    }
  }

  std::vector<Branch> branches;
  std::size_t item = 0;
  for (const std::int64_t n : groups(items)) {
    const std::int64_t from = items[item].from();
    Branch branch{.from = from,
                  .stream = plain.narrow(1, from, T - from).unsqueeze(1).repeat({1, n, 1, 1})};
    for (std::int64_t i = 0; i < n; ++i, ++item) {
      const at::Tensor& rows = changed[item];
      branch.stream.select(1, i).narrow(1, 0, rows.size(1)).copy_(rows);
    }
    branches.push_back(std::move(branch));
  }
  return {entry, std::move(branches)};
}

}  // namespace plumb
