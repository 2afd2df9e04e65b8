#include "experiment/patch_starts.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/mlp.h"
#include "model/tap.h"

namespace plumb {

// B: sequences, R: positions that an item patches, H: heads, K: key heads.

namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

const std::vector<std::int64_t>* chosen(Axis axis, const Slice& slice) {
  switch (axis) {
    case Axis::head:
    case Axis::kv_head: return &slice.heads;
    case Axis::position:
    case Axis::query: return &slice.positions;
    case Axis::key: return &slice.keys;
    case Axis::expert: return &slice.experts;
    case Axis::d_head:
    case Axis::d_model:
    case Axis::d_mlp: return &slice.units;
    default: return nullptr;
  }
}

void clear(Axis axis, Slice& slice) {
  switch (axis) {
    case Axis::head:
    case Axis::kv_head: slice.heads.clear(); break;
    case Axis::position:
    case Axis::query: slice.positions.clear(); break;
    case Axis::key: slice.keys.clear(); break;
    case Axis::expert: slice.experts.clear(); break;
    default: slice.units.clear(); break;
  }
}

}  // namespace

std::vector<Site> patched_sites(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                int depth) {
  std::vector<Site> sites;
  const auto add = [&](Site site) {
    if (site.layer < depth && has_part(config, site.part, site.layer) &&
        std::ranges::count(sites, site) == 0)
      sites.push_back(site);
  };
  for (const SweepSpec& sweep : sweeps) {
    for (const SiteSet& set : sweep.sets) {
      for (const SlicedSite& site : set.sites) add(site.site);
    }
    if (!sweep.sets.empty()) continue;
    for (int layer = 0; layer < (per_layer(sweep.part) ? config.layers : 1); ++layer)
      add({sweep.part, layer});
  }
  return sites;
}

std::vector<Record> start_records(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                  int depth) {
  std::vector<Record> records;
  const auto add = [&](Part part, int layer) {
    const Site site{part, layer};
    if (has_part(config, part, layer) &&
        std::ranges::none_of(records, [&](const Record& record) { return record.site == site; }))
      records.emplace_back(site);
  };
  for (const Site& site : patched_sites(sweeps, config, depth)) {
    add(site.part, site.layer);
    const bool reads = site.part == Part::q || site.part == Part::k || site.part == Part::v;
    if (reads) add(Part::q, site.layer);
    if (reads || site.part == Part::scores || site.part == Part::pattern) {
      add(Part::z, site.layer);
      if (config.gated_attention) add(Part::z_gate, site.layer);
    }
    if (site.part == Part::mlp_pre || site.part == Part::mlp_up) {
      add(Part::mlp_pre, site.layer);
      add(Part::mlp_up, site.layer);
    }
  }
  return records;
}

PatchStarts::PatchStarts(const Model& model, const Follower& follower, const Trunk& trunk,
                         const Cache& base, const Replacements& replacements,
                         const std::vector<Intervention>& fixed, const PatchRoutes& routes)
    : model_(model),
      follower_(follower),
      trunk_(trunk),
      base_(base),
      replacements_(replacements),
      fixed_(fixed),
      routes_(routes) {}

// The selected entries of the site, unpatched and patched. An axis of which one entry is selected
// keeps its place, with size 1.
PatchStarts::Values PatchStarts::values(const SlicedSite& at) const {
  Intervention edit = replacements_.edit(at);
  Values made{.plain = base_.at(at.site)};
  std::int64_t dim = 0;
  for (const Axis axis : axes(at.site.part)) {
    const auto* const list = chosen(axis, at.slice);
    if (list != nullptr && list->size() == 1) {
      made.plain = made.plain.narrow(dim, list->front(), 1);
      clear(axis, edit.where);
    }
    ++dim;
  }
  const Plan plan{.interventions = {edit}};
  const plumb::Tile tile{};
  made.edited = Tap(plan, tile, made.plain.size(0)).edit(at.site, made.plain);
  return made;
}

// Of a [B, T, ...] tensor, the positions that a patched site changes within its block.
at::Tensor PatchStarts::rows(const at::Tensor& whole, const SlicedSite& at) const {
  if (at.slice.positions.empty()) return whole;
  const std::int64_t first = at.slice.positions.front();
  // Later queries see a key.
  const bool seen = at.site.part == Part::k || at.site.part == Part::v;
  return whole.narrow(1, first, seen ? whole.size(1) - first : 1);
}

// [B, R, d_model] of the stream that leaves the site's block, or enters it.
at::Tensor PatchStarts::of_stream(const SlicedSite& at) const {
  const Part part = at.site.part;
  const std::size_t layer = at_layer(at.site.layer);
  const at::Tensor after =
      rows(trunk_.resid_pre[PatchRoutes::enters_own_block(part) ? layer : layer + 1], at);
  if (part == Part::mlp_pre || part == Part::mlp_up || part == Part::mlp_post)
    return after + neuron_change(at);
  const Values found = values(at);
  switch (part) {
    case Part::mlp_out: return rows(trunk_.resid_mid[layer], at) + found.edited;
    case Part::expert_out: return after + (found.edited - found.plain).sum(2);
    case Part::embed:
    case Part::pos_embed:
    case Part::shared_out: return after + (found.edited - found.plain);
    default: return found.edited;
  }
}

// What patched neurons change in the MLP's write, [B, R, d_model].
at::Tensor PatchStarts::neuron_change(const SlicedSite& at) const {
  const ModelConfig& config = model_.config();
  const Part part = at.site.part;
  const Values found = values(at);
  at::Tensor change = found.edited - found.plain;
  if (part != Part::mlp_post) {
    const auto of = [&](Part wanted) {
      const at::Tensor all = rows(base_.at({wanted, at.site.layer}), at);
      return at.slice.units.empty() ? all : all.narrow(2, at.slice.units.front(), 1);
    };
    if (part == Part::mlp_up) {
      change = activate(config.activation, of(Part::mlp_pre)) * change;
    } else {
      change = activate(config.activation, found.edited) - activate(config.activation, found.plain);
      if (config.gated_mlp) change = change * of(Part::mlp_up);
    }
  }
  at::Tensor down = model_.weight(Weight::down, at.site.layer);
  if (!at.slice.units.empty()) down = down.narrow(1, at.slice.units.front(), 1);
  return at::linear(change, down);
}

// Of patched queries, keys or values: z of the heads that read them, [B, R, heads, d_head].
at::Tensor PatchStarts::attended(const SlicedSite& at) const {
  const ModelConfig& config = model_.config();
  const Part part = at.site.part;
  const std::size_t layer = at_layer(at.site.layer);
  const std::int64_t group = config.heads / config.kv_heads;
  std::int64_t first = 0;  // query head
  std::int64_t heads = config.heads;
  if (!at.slice.heads.empty()) {
    heads = part == Part::q ? 1 : group;
    first = at.slice.heads.front() * heads;
  }
  const std::int64_t keys = (heads + group - 1) / group;
  at::Tensor q = rows(base_.at({Part::q, at.site.layer}), at).narrow(2, first, heads);
  at::Tensor k = trunk_.k[layer].narrow(2, first / group, keys);
  at::Tensor v = trunk_.v[layer].narrow(2, first / group, keys);
  const at::Tensor edited = values(at).edited;
  const std::int64_t from = at.slice.positions.empty() ? 0 : at.slice.positions.front();
  if (part == Part::q) {
    q = edited;
  } else {
    at::Tensor& own = part == Part::k ? k : v;
    own = own.clone();
    own.narrow(1, from, edited.size(1)).copy_(edited);
  }
  return follower_.mixed_alone(at.site.layer, q, k, v, from, first);
}

// [B, R, H, d_head]
at::Tensor PatchStarts::edited_z(const SlicedSite& at) const {
  const Part part = at.site.part;
  const Values found = values(at);
  at::Tensor z = rows(base_.at({Part::z, at.site.layer}), at).clone();
  const bool by_key = part == Part::k || part == Part::v;
  const std::int64_t heads = by_key ? model_.config().heads / model_.config().kv_heads : 1;
  const auto own = [&](at::Tensor& all) {
    return at.slice.heads.empty() ? all : all.narrow(2, at.slice.heads.front() * heads, heads);
  };
  if (by_key || part == Part::q) {
    at::Tensor mixed = attended(at);
    if (model_.config().gated_attention) {
      at::Tensor gate = rows(base_.at({Part::z_gate, at.site.layer}), at);
      mixed = mixed * own(gate);
    }
    own(z).copy_(mixed);
    return z;
  }
  if (part == Part::z) {
    own(z).copy_(found.edited);
    return z;
  }
  at::Tensor change;  // of the pattern, [B, heads, R, keys]
  if (part == Part::pattern) {
    change = found.edited - found.plain;
  } else {
    SlicedSite row = at;  // the softmax needs all keys
    row.slice.keys.clear();
    at::Tensor plain = base_.at(at.site);
    if (!at.slice.heads.empty()) plain = plain.narrow(1, at.slice.heads.front(), 1);
    if (!at.slice.positions.empty()) plain = plain.narrow(2, at.slice.positions.front(), 1);
    at::Tensor edited = plain.clone();
    if (at.slice.keys.empty()) {
      edited.copy_(found.edited);
    } else {
      edited.narrow(3, at.slice.keys.front(), 1).copy_(found.edited);
    }
    change = at::softmax(edited, -1) - at::softmax(plain, -1);
  }
  const ModelConfig& config = model_.config();
  at::Tensor v = trunk_.v[at_layer(at.site.layer)]
                     .permute({0, 2, 1, 3})
                     .repeat_interleave(config.heads / config.kv_heads, 1);  // [B, H, keys, d_head]
  if (!at.slice.heads.empty()) v = v.narrow(1, at.slice.heads.front(), 1);
  if (part == Part::pattern && !at.slice.keys.empty()) v = v.narrow(2, at.slice.keys.front(), 1);
  at::Tensor added = at::matmul(change, v).permute({0, 2, 1, 3});
  if (config.gated_attention) {
    at::Tensor gate = rows(base_.at({Part::z_gate, at.site.layer}), at);
    added = added * own(gate);
  }
  own(z).add_(added);
  return z;
}

// [B, R, d_model] of the stream between attention and MLP.
at::Tensor PatchStarts::of_mid(const SlicedSite& at) const {
  const std::size_t layer = at_layer(at.site.layer);
  switch (at.site.part) {
    case Part::resid_mid: return values(at).edited;
    case Part::attn_out: return rows(trunk_.resid_pre[layer], at) + values(at).edited;
    case Part::head_out: {
      const Values found = values(at);
      return rows(trunk_.resid_mid[layer], at) + (found.edited - found.plain).sum(2);
    }
    default: {
      const at::Tensor z = edited_z(at);
      return rows(trunk_.resid_pre[layer], at) +
             follower_.attn_out(at.site.layer, z.reshape({-1, z.size(2), z.size(3)}))
                 .view({z.size(0), z.size(1), -1});
    }
  }
}

// One product for all items: their rows through this block's MLP.
std::vector<at::Tensor> PatchStarts::through_mlp(int layer, const std::vector<SlicedSite>& sites,
                                                 const std::vector<at::Tensor>& mids,
                                                 std::int64_t& evaluations) const {
  const at::Tensor mid = at::cat(mids, 1);
  at::Tensor added;
  if (model_.config().parallel) {
    std::vector<at::Tensor> same;
    for (const SlicedSite& site : sites)
      same.push_back(rows(trunk_.mlp_out[at_layer(layer)], site));
    added = at::cat(same, 1);
  } else {
    added = follower_.mlp_out(layer, mid.reshape({-1, mid.size(2)})).view(mid.sizes());
    evaluations += mid.size(0) * mid.size(1);
  }
  const at::Tensor after = mid + added;
  std::vector<at::Tensor> changed;
  std::int64_t first = 0;
  for (const at::Tensor& rows : mids) {
    changed.push_back(after.narrow(1, first, rows.size(1)));
    first += rows.size(1);
  }
  return changed;
}

at::Tensor PatchStarts::run_whole(const SweepSpec& spec, int layer, const PatchItem& item,
                                  int until, Site record, std::int64_t& evaluations) const {
  at::Tensor stream = trunk_.resid_pre[at_layer(layer)];
  std::vector<Intervention> edits;
  for (const Intervention& edit : fixed_) {
    // The trunk's stream holds what was edited before.
    if (per_layer(edit.site.part) && edit.site.layer >= layer && edit.site.layer < until &&
        edit.site != Site{Part::resid_pre, layer})
      edits.push_back(edit);
  }
  for (const SlicedSite& site : sites_of(spec, layer, item)) {
    if (per_layer(site.site.part)) {
      edits.push_back(replacements_.edit(site));
    } else {
      const at::Tensor& plain = base_.at(site.site);
      const Plan plan{.interventions = {replacements_.edit(site)}};
      const plumb::Tile tile{};
      stream = stream + Tap(plan, tile, plain.size(0)).edit(site.site, plain) - plain;
    }
  }
  evaluations += stream.size(0) * stream.size(1) * (until - layer);
  return follower_.blocks(layer, until, stream, std::move(edits), {record}).at(record);
}

std::vector<Branch> PatchStarts::make(const SweepSpec& spec, const PatchJob& job,
                                      std::int64_t& evaluations) const {
  const int enter = routes_.entry(spec, job);
  const at::Tensor& plain = trunk_.resid_pre[at_layer(enter)];
  const std::int64_t T = plain.size(1);

  // The changed rows of every item, [B, rows, d_model].
  std::vector<at::Tensor> changed;
  if (const Way way = routes_.way(spec, job.layer); way != Way::none) {
    std::vector<SlicedSite> sites;
    for (const PatchItem& item : job.items)
      sites.push_back(sites_of(spec, job.layer, item).front());
    for (const SlicedSite& site : sites)
      changed.push_back(way == Way::mid ? of_mid(site) : of_stream(site));
    if (way == Way::mid) changed = through_mlp(job.layer, sites, changed, evaluations);
  } else {
    const Site leaving{Part::resid_post, enter - 1};
    for (const PatchItem& item : job.items) {
      changed.push_back(run_whole(spec, job.layer, item, enter, leaving, evaluations)
                            .narrow(1, item.from, T - item.from)
                            .clone());  // so that the other positions are let go of
    }
  }

  std::vector<Branch> branches;
  std::size_t item = 0;
  for (const std::int64_t n : branch_sizes(job.items)) {
    const std::int64_t from = job.items[item].from;
    Branch branch{.from = from,
                  .stream = plain.narrow(1, from, T - from).unsqueeze(1).repeat({1, n, 1, 1})};
    for (std::int64_t i = 0; i < n; ++i, ++item) {
      const at::Tensor& rows = changed[item];
      branch.stream.select(1, i).narrow(1, 0, rows.size(1)).copy_(rows);
    }
    branches.push_back(std::move(branch));
  }
  return branches;
}

}  // namespace plumb
