#include "support/naive_path.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "support/naive_patch.h"

namespace plumb::test {
namespace {

bool inside_mlp(Part part) {
  return part == Part::mlp_post || part == Part::expert_out || part == Part::shared_out;
}

bool of_mlp(Part part) { return inside_mlp(part) || part == Part::mlp_out; }

at::Tensor cut_to(at::Tensor value, Part part, const Slice& slice) {
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    const bool head = axis == Axis::head || axis == Axis::kv_head;
    const auto& chosen = head ? slice.heads : slice.positions;
    if ((head || axis == Axis::position) && !chosen.empty())
      value = value.index_select(dim, at::tensor(chosen, at::kLong));
    ++dim;
  }
  return value;
}

class Passes {
 public:
  Passes(const Model& model, const Tokens& tokens, PathMlps mlps)
      : model_(model), tokens_(tokens), config_(model.config()), mlps_(mlps) {
    for (int layer = 0; layer < config_.layers; ++layer) {
      keep({Part::z, layer});
      keep({Part::mlp_out, layer});
    }
  }

  at::Tensor plain(Site site) const {
    return run(model_, tokens_, {.record = {site}}).cache.at(site);
  }

  // A run in which the senders are edited and the rest is held.
  Plan held(const std::vector<Intervention>& senders) const {
    Plan plan;
    std::set<int> own_mlp;     // an MLP that sends does not look at what was sent
    std::set<int> free_write;  // its write is made of what it holds inside
    for (const Intervention& sender : senders) {
      if (of_mlp(sender.site.part)) own_mlp.insert(sender.site.layer);
      if (inside_mlp(sender.site.part)) free_write.insert(sender.site.layer);
    }
    for (const Intervention& sender : senders)
      plan.interventions.push_back({sender.site, {}, Put{plain(sender.site)}});
    for (int layer = 0; layer < config_.layers; ++layer) {
      plan.interventions.push_back({{Part::z, layer}, {}, Put{kept_.at({Part::z, layer})}});
      const bool hold = mlps_ == PathMlps::frozen || own_mlp.contains(layer);
      if (hold && !free_write.contains(layer))
        plan.interventions.push_back(
            {{Part::mlp_out, layer}, {}, Put{kept_.at({Part::mlp_out, layer})}});
    }
    for (const Intervention& sender : senders) plan.interventions.push_back(sender);
    return plan;
  }

  // What the receivers read in that run, as edits.
  std::vector<Intervention> received(const std::vector<Intervention>& senders,
                                     const std::vector<SlicedSite>& receivers) const {
    Plan plan = held(senders);
    for (const SlicedSite& receiver : receivers) {
      if (std::ranges::none_of(plan.record,
                               [&](const Record& r) { return r.site == receiver.site; }))
        plan.record.emplace_back(receiver.site);
    }
    const Run found = run(model_, tokens_, plan);
    std::vector<Intervention> edits;
    for (const SlicedSite& receiver : receivers) {
      edits.push_back(
          {receiver.site, receiver.slice,
           Put{cut_to(found.cache.at(receiver.site), receiver.site.part, receiver.slice)}});
    }
    return edits;
  }

  // What the nodes of a hop write when they read that, each block by itself.
  std::vector<Intervention> written(const std::vector<Intervention>& received) const {
    std::vector<Intervention> senders;
    for (int layer = 0; layer < config_.layers; ++layer) {
      std::vector<Intervention> attention;
      std::set<std::int64_t> heads;
      for (const Intervention& node : received) {
        if (node.site.layer != layer) continue;
        if (node.site.part == Part::mlp_in) {
          const Site out{Part::mlp_out, layer};
          senders.push_back({out,
                             {},
                             Put{run(model_, tokens_, {.record = {out}, .interventions = {node}})
                                     .cache.at(out)}});
          continue;
        }
        attention.push_back(node);
        const std::int64_t group = node.site.part == Part::q ? 1 : config_.heads / config_.kv_heads;
        for (std::int64_t head = 0; head < config_.heads; ++head) {
          if (node.where.heads.empty() || std::ranges::count(node.where.heads, head / group) > 0)
            heads.insert(head);
        }
      }
      if (attention.empty()) continue;
      const Site site{Part::z, layer};
      const at::Tensor z =
          run(model_, tokens_, {.record = {site}, .interventions = attention}).cache.at(site);
      Intervention sender{site};
      sender.where.heads.assign(heads.begin(), heads.end());
      sender.edit = Put{cut_to(z, Part::z, sender.where)};
      senders.push_back(sender);
    }
    return senders;
  }

 private:
  void keep(Site site) { kept_.emplace(site, plain(site)); }

  const Model& model_;
  const Tokens& tokens_;
  const ModelConfig& config_;
  PathMlps mlps_;
  std::map<Site, at::Tensor> kept_ = {};
};

}  // namespace

at::Tensor naive_paths(const Model& model, const Pairs& pairs,
                       const std::vector<SlicedSite>& senders, const Paths& paths,
                       const PatchOptions& options) {
  const bool clean = !pairs.paired || options.direction == Direction::noising;
  const Passes passes(model, clean ? pairs.clean : pairs.corrupt, paths.mlps);
  std::vector<Intervention> sending;
  for (const SlicedSite& sender : senders)
    sending.push_back(naive_edit(model, pairs, sender, options.replacement, options.direction, {}));
  for (const auto& hop : paths.via) sending = passes.written(passes.received(sending, hop));
  const Plan last = paths.receivers.front().site.part == Part::logits
                        ? passes.held(sending)
                        : Plan{.interventions = passes.received(sending, paths.receivers)};
  return naive_read(model, pairs, options.metric, clean, last);
}

}  // namespace plumb::test
