#include "experiment/path_cost.h"

#include <algorithm>
#include <set>

#include "experiment/patch_cost.h"
#include "experiment/path_walk.h"

namespace plumb {
namespace {

// `Changes` without their values.
struct Sent {
  std::int64_t from = 0;
  std::int64_t count = 0;
  bool embed = false;
  std::set<int> attention = {};
  std::set<int> mlp = {};
};

bool meets(const SlicedSite& site, const Sent& sent) {
  const auto& positions = site.slice.positions;
  return positions.empty() || std::ranges::any_of(positions, [&](std::int64_t t) {
           return t >= sent.from && t < sent.from + sent.count;
         });
}

class Walk {
 public:
  Walk(const ModelConfig& config, PathMlps mlps, std::int64_t pairs, std::int64_t T)
      : config_(config), mlps_(mlps), pairs_(pairs), T_(T) {}

  std::int64_t evaluations() const { return evaluations_; }

  Sent send(const std::vector<SlicedSite>& senders) const {
    Sent made{.from = T_};
    std::int64_t end = 0;
    for (const SlicedSite& sender : senders) {
      const auto& positions = sender.slice.positions;
      const bool all = positions.empty();
      made.from = std::min(made.from, all ? 0 : *std::ranges::min_element(positions));
      end = std::max(end, all ? T_ : *std::ranges::max_element(positions) + 1);
      const Site& site = sender.site;
      if (!per_layer(site.part)) {
        made.embed = true;
      } else if (site.part == Part::z || site.part == Part::head_out ||
                 site.part == Part::attn_out) {
        made.attention.insert(site.layer);
      } else {
        made.mlp.insert(site.layer);
      }
    }
    made.count = end - made.from;
    return made;
  }

  // Which receivers something arrives at.
  std::vector<bool> arrive(const Sent& sent, const std::vector<SlicedSite>& receivers) {
    std::vector<bool> arrived(receivers.size(), false);
    for (std::size_t i = 0; i < receivers.size(); ++i)
      arrived[i] = sent.embed || written_before(sent, receivers[i].site);
    const int last = PathWalk::last_mlp_read(receivers, config_);
    for (int layer = 0; layer <= last && mlps_ == PathMlps::recomputed; ++layer) {
      const bool reached = sent.embed || written_before(sent, {Part::mlp_in, layer});
      if (reached && layer < config_.layers && !sent.mlp.contains(layer))
        evaluations_ += pairs_ * sent.count;
    }
    return arrived;
  }

  Sent pass_on(const Sent& sent, const std::vector<SlicedSite>& nodes,
               const std::vector<bool>& arrived) {
    const bool attends = std::ranges::any_of(
        nodes, [](const SlicedSite& node) { return node.site.part != Part::mlp_in; });
    Sent made{.from = sent.from, .count = attends ? T_ - sent.from : sent.count};
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!arrived[i] || !meets(nodes[i], sent)) continue;
      if (nodes[i].site.part == Part::mlp_in) {
        evaluations_ += pairs_ * sent.count;
        made.mlp.insert(nodes[i].site.layer);
      } else if (made.attention.insert(nodes[i].site.layer).second) {
        evaluations_ += pairs_ * T_;
      }
    }
    return made;
  }

 private:
  // Whether a sublayer of what was sent writes before the site is read; MLPs that are recomputed
  // add nothing new to that.
  bool written_before(const Sent& sent, const Site& site) const {
    const int layer = per_layer(site.part) ? site.layer : config_.layers;
    const bool after_mlp = site.part == Part::resid_post;
    const bool after_attention = after_mlp || site.part == Part::resid_mid ||
                                 (site.part == Part::mlp_in && !config_.parallel);
    const auto before = [layer](const std::set<int>& layers, bool own) {
      return !layers.empty() && (*layers.begin() < layer || (own && *layers.begin() == layer));
    };
    return before(sent.attention, after_attention) || before(sent.mlp, after_mlp);
  }

  const ModelConfig& config_;
  PathMlps mlps_;
  std::int64_t pairs_;
  std::int64_t T_;
  std::int64_t evaluations_ = 0;
};

}  // namespace

JobCost path_job_cost(const Model& model, const PatchOptions& options, const SweepSpec& senders,
                      const Paths& paths, const PatchJob& job, std::int64_t pairs, std::int64_t T) {
  const ModelConfig& config = model.config();
  const int depth = depth_of(options, config);
  JobCost cost;
  if (job.layer >= depth) return cost;
  Walk walk(config, paths.mlps, pairs, T);
  for (const PatchItem& item : job.items) {
    Sent sent = walk.send(sites_of(senders, job.layer, item));
    for (const auto& hop : paths.via) sent = walk.pass_on(sent, hop, walk.arrive(sent, hop));
    const std::vector<bool> arrived = walk.arrive(sent, paths.receivers);
    int first = config.layers;
    int last = -1;
    for (std::size_t i = 0; i < arrived.size(); ++i) {
      const SlicedSite& receiver = paths.receivers[i];
      if (!arrived[i] || !meets(receiver, sent) || !per_layer(receiver.site.part)) continue;
      first = std::min(first, receiver.site.layer);
      last = std::max(last, receiver.site.layer);
    }
    if (last < 0) continue;
    cost.evaluations += pairs * T * (last + 1 - first);
    if (!reads_block(options.metric)) {
      cost.evaluations += pairs * (T - item.from) * (config.layers - last - 1);
    } else if (last + 1 < depth) {
      cost.evaluations += pairs * (T - item.from) * (depth - last - 2) + pairs * T;
    }
  }
  cost.evaluations += walk.evaluations();
  const auto items = static_cast<std::int64_t>(job.items.size());
  const std::int64_t rows = pairs * T * std::min(items, streams_at_once(pairs, T));
  std::int64_t received = 0;  // entries at a position
  for (const SlicedSite& receiver : paths.receivers) {
    std::int64_t width = 1;
    for (const Axis axis : axes(receiver.site.part)) {
      if (axis != Axis::position) width *= axis_size(axis, config, T);
    }
    received += width;
  }
  const std::int64_t alone = pairs * T;
  const std::int64_t scores = 3 * config.heads * T;
  const std::int64_t walked =
      4 * alone * config.d_model + block_elements(config, alone, scores * alone, false, false);
  const std::int64_t run = rows * (3 * std::int64_t{config.d_model} + 2 * received) +
                           block_elements(config, rows, scores * rows, false, false);
  cost.bytes = number_bytes(model) * (rows * received + std::max(walked, run)) +
               metric_bytes(options.metric, model);
  return cost;
}

}  // namespace plumb
