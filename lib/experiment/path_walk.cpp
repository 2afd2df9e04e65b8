#include "experiment/path_walk.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "model/tap.h"

namespace plumb {

// B: sequences, count: positions of a change.

namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

bool reads_before_attention(Part part) {
  switch (part) {
    case Part::q:
    case Part::k:
    case Part::v:
    case Part::q_in:
    case Part::k_in:
    case Part::v_in:
    case Part::resid_pre: return true;
    default: return false;
  }
}

bool is_projected(Part part) { return part == Part::q || part == Part::k || part == Part::v; }

at::Tensor narrowed(const at::Tensor& whole, const Changes& span) {
  return whole.narrow(1, span.from, span.count);
}

void add_to(at::Tensor& sum, const at::Tensor& change) {
  sum = sum.defined() ? sum + change : change;
}

// The query heads that read or are the heads of a receiver.
std::vector<std::int64_t> query_heads(const SlicedSite& node, const ModelConfig& config) {
  const std::int64_t group = node.site.part == Part::q ? 1 : config.heads / config.kv_heads;
  std::vector<std::int64_t> heads;
  for (std::int64_t head = 0; head < config.heads; ++head) {
    if (node.slice.heads.empty() || std::ranges::count(node.slice.heads, head / group) > 0)
      heads.push_back(head);
  }
  return heads;
}

}  // namespace

PathWalk::PathWalk(const Model& model, const Follower& follower, const Trunk& trunk,
                   const Cache& base, const Replacements& replacements, PathMlps mlps)
    : model_(model),
      follower_(follower),
      trunk_(trunk),
      base_(base),
      replacements_(replacements),
      mlps_(mlps) {}

std::vector<Record> PathWalk::records(const std::vector<Site>& senders, const Paths& paths,
                                      const ModelConfig& config) {
  std::vector<Record> records;
  const auto add = [&](Site site) {
    if (std::ranges::none_of(records, [&](const Record& known) { return known.site == site; }))
      records.emplace_back(site);
  };
  for (const Site& site : senders) add(site);
  const auto add_mlps = [&](const std::vector<SlicedSite>& receivers) {
    if (paths.mlps != PathMlps::recomputed) return;
    for (int layer = 0; layer <= last_mlp_read(receivers, config); ++layer)
      add({Part::mlp_out, layer});
  };
  for (const auto& hop : paths.via) {
    add_mlps(hop);
    for (const SlicedSite& node : hop)
      add({node.site.part == Part::mlp_in ? Part::mlp_out : Part::z, node.site.layer});
  }
  add_mlps(paths.receivers);
  return records;
}

int PathWalk::last_mlp_read(const std::vector<SlicedSite>& receivers, const ModelConfig& config) {
  int last = -1;
  for (const SlicedSite& receiver : receivers) {
    const int layer = per_layer(receiver.site.part) ? receiver.site.layer : config.layers;
    last = std::max(last, receiver.site.part == Part::resid_post ? layer : layer - 1);
  }
  return last;
}

at::Tensor PathWalk::base_rows(Site site, const Changes& span) const {
  return narrowed(base_.at(site), span);
}

// The rows of one site, each of the edits made.
at::Tensor PathWalk::edited_rows(const std::vector<SlicedSite>& sites, const Changes& span) const {
  at::Tensor value = base_rows(sites.front().site, span);
  const plumb::Tile tile{};
  for (const SlicedSite& site : sites) {
    Intervention edit = replacements_.edit(site);
    for (std::int64_t& position : edit.where.positions) position -= span.from;
    const Plan plan{.interventions = {edit}};
    value = Tap(plan, tile, value.size(0)).edit(site.site, value);
  }
  return value;
}

at::Tensor PathWalk::written_by_heads(int layer, const at::Tensor& z) const {
  return follower_.attn_out(layer, z.reshape({-1, z.size(2), z.size(3)}))
      .view({z.size(0), z.size(1), -1});
}

// What the MLP writes when it reads the stream, less what it writes.
at::Tensor PathWalk::mlp_change(int layer, const at::Tensor& stream, const Changes& span) const {
  return follower_.mlp_out(layer, stream.reshape({-1, stream.size(2)})).view(stream.sizes()) -
         base_rows({Part::mlp_out, layer}, span);
}

Changes PathWalk::send(const std::vector<SlicedSite>& senders) const {
  const std::int64_t T = trunk_.resid_pre.front().size(1);
  Changes made{.from = T};
  std::int64_t end = 0;
  std::map<Site, std::vector<SlicedSite>> by_site;
  for (const SlicedSite& sender : senders) {
    by_site[sender.site].push_back(sender);
    const auto& positions = sender.slice.positions;
    const bool all = positions.empty();
    made.from = std::min(made.from, all ? 0 : *std::ranges::min_element(positions));
    end = std::max(end, all ? T : *std::ranges::max_element(positions) + 1);
  }
  made.count = end - made.from;
  for (const auto& [site, sites] : by_site) {
    const at::Tensor plain = base_rows(site, made);
    const at::Tensor edited = edited_rows(sites, made);
    switch (site.part) {
      case Part::z:
        made.attention[site.layer] =
            written_by_heads(site.layer, edited) - written_by_heads(site.layer, plain);
        break;
      case Part::head_out: made.attention[site.layer] = (edited - plain).sum(2); break;
      case Part::attn_out: made.attention[site.layer] = edited - plain; break;
      case Part::mlp_post:
        made.mlp[site.layer] = at::linear(edited - plain, model_.weight(Weight::down, site.layer));
        break;
      case Part::expert_out: made.mlp[site.layer] = (edited - plain).sum(2); break;
      case Part::embed:
      case Part::pos_embed: add_to(made.embed, edited - plain); break;
      default: made.mlp[site.layer] = edited - plain; break;
    }
  }
  return made;
}

std::vector<at::Tensor> PathWalk::arrive(const Changes& changes,
                                         const std::vector<SlicedSite>& receivers,
                                         std::int64_t& evaluations) const {
  const ModelConfig& config = model_.config();
  std::vector<at::Tensor> arrived(receivers.size());
  const int last_mlp = last_mlp_read(receivers, config);
  int last = 0;  // block
  for (const SlicedSite& receiver : receivers)
    last = std::max(last, per_layer(receiver.site.part) ? receiver.site.layer : config.layers);
  at::Tensor sent = changes.embed;  // what the stream holds more than the unpatched one
  const auto give = [&](int layer, const auto& takes, const at::Tensor& plain) {
    if (!sent.defined()) return;
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      const Site& site = receivers[i].site;
      const int own = per_layer(site.part) ? site.layer : config.layers;
      if (own != layer || !takes(site.part)) continue;
      const at::Tensor stream = narrowed(plain, changes) + sent;
      arrived[i] = is_projected(site.part)
                       ? follower_.read_as(site.part, layer, stream, changes.from)
                       : stream;
    }
  };
  for (int layer = 0; layer < config.layers && layer <= last; ++layer) {
    const at::Tensor& pre = trunk_.resid_pre[at_layer(layer)];
    const at::Tensor& mid = trunk_.resid_mid[at_layer(layer)];
    give(layer, reads_before_attention, pre);
    at::Tensor read_by_mlp = sent;  // beside attention, where the block is parallel
    if (config.parallel)
      give(
          layer, [](Part part) { return part == Part::mlp_in; }, pre);
    if (const auto found = changes.attention.find(layer); found != changes.attention.end())
      add_to(sent, found->second);
    if (!config.parallel) {
      read_by_mlp = sent;
      give(
          layer, [](Part part) { return part == Part::mlp_in; }, mid);
    }
    give(
        layer, [](Part part) { return part == Part::resid_mid; }, mid);
    if (const auto found = changes.mlp.find(layer); found != changes.mlp.end()) {
      add_to(sent, found->second);
    } else if (mlps_ == PathMlps::recomputed && read_by_mlp.defined() && layer <= last_mlp) {
      const at::Tensor plain = narrowed(config.parallel ? pre : mid, changes);
      sent = sent + mlp_change(layer, plain + read_by_mlp, changes);
      evaluations += plain.size(0) * plain.size(1);
    }
    give(
        layer, [](Part part) { return part == Part::resid_post; },
        trunk_.resid_pre[at_layer(layer + 1)]);
  }
  give(
      config.layers, [](Part) { return true; }, trunk_.resid_pre.back());
  return arrived;
}

Changes PathWalk::pass_on(const Changes& changes, const std::vector<SlicedSite>& nodes,
                          const std::vector<at::Tensor>& arrived, std::int64_t& evaluations) const {
  const ModelConfig& config = model_.config();
  const std::int64_t T = trunk_.resid_pre.front().size(1);
  const bool attends = std::ranges::any_of(
      nodes, [](const SlicedSite& node) { return node.site.part != Part::mlp_in; });
  // What a head reads at one position, later ones see.
  Changes made{.from = changes.from, .count = attends ? T - changes.from : changes.count};
  std::map<int, std::vector<Intervention>> edits;  // of attention
  std::map<int, std::vector<std::int64_t>> heads;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!arrived[i].defined()) continue;
    const std::optional<Intervention> edit = paste(nodes[i], arrived[i], changes.from);
    if (!edit) continue;
    const int layer = nodes[i].site.layer;
    if (nodes[i].site.part == Part::mlp_in) {
      const at::Tensor& whole =
          config.parallel ? trunk_.resid_pre[at_layer(layer)] : trunk_.resid_mid[at_layer(layer)];
      Intervention shifted = *edit;
      for (std::int64_t& position : shifted.where.positions) position -= changes.from;
      const at::Tensor plain = narrowed(whole, changes);
      const Plan plan{.interventions = {shifted}};
      const plumb::Tile tile{};
      const at::Tensor read = Tap(plan, tile, plain.size(0)).edit(nodes[i].site, plain);
      evaluations += plain.size(0) * plain.size(1);
      at::Tensor change = at::zeros({plain.size(0), made.count, plain.size(2)}, plain.options());
      change.narrow(1, 0, changes.count).copy_(mlp_change(layer, read, changes));
      add_to(made.mlp[layer], change);
      continue;
    }
    edits[layer].push_back(*edit);
    for (const std::int64_t head : query_heads(nodes[i], config)) heads[layer].push_back(head);
  }
  for (const auto& [layer, own] : edits) {
    const at::Tensor& stream = trunk_.resid_pre[at_layer(layer)];
    const Site site{Part::z, layer};
    const at::Tensor patched =
        narrowed(follower_.blocks(layer, layer + 1, stream, own, {Record(site)}).at(site), made);
    evaluations += stream.size(0) * stream.size(1);
    const at::Tensor plain = base_rows(site, made);
    at::Tensor z = plain.clone();
    for (const std::int64_t head : heads[layer]) z.select(2, head).copy_(patched.select(2, head));
    made.attention[layer] = written_by_heads(layer, z) - written_by_heads(layer, plain);
  }
  return made;
}

std::optional<Intervention> PathWalk::paste(const SlicedSite& receiver, const at::Tensor& arrived,
                                            std::int64_t from) {
  const std::int64_t count = arrived.size(1);
  std::vector<std::int64_t> rows;
  Intervention made{.site = receiver.site, .where = receiver.slice};
  made.where.positions.clear();
  for (std::int64_t row = 0; row < count; ++row) {
    const auto& wanted = receiver.slice.positions;
    if (!wanted.empty() && std::ranges::count(wanted, from + row) == 0) continue;
    rows.push_back(row);
    made.where.positions.push_back(from + row);
  }
  if (rows.empty()) return std::nullopt;
  Slice cut = receiver.slice;
  cut.positions = rows;
  made.edit = Put{select(arrived, receiver.site.part, cut)};
  return made;
}

}  // namespace plumb
