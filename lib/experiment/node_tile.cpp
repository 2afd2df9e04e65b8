#include "experiment/node_tile.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "core/precision.h"
#include "experiment/edge_samples.h"
#include "experiment/node_block.h"
#include "experiment/node_pattern.h"
#include "experiment/node_plain.h"

namespace plumb {
namespace {

bool is_stream(Part part) {
  return part == Part::resid_pre || part == Part::resid_mid || part == Part::resid_post;
}

bool has_position(const SweepSpec& spec) {
  return std::ranges::count(spec.axes, SweepAxis::position) > 0;
}

std::set<Part> parts_of(const std::vector<SweepSpec>& nodes, const ModelConfig& config, int layer) {
  std::set<Part> parts;
  for (const SweepSpec& spec : nodes) {
    if (has_part(config, spec.part, layer)) parts.insert(spec.part);
  }
  return parts;
}

class NodeTileRun {
 public:
  NodeTileRun(const Model& model, const Pairs& pairs, std::int64_t first,
              const std::vector<SweepSpec>& nodes, const Metric& metric, const NodeOptions& options,
              const std::function<void()>& step)
      : config_(model.config()),
        nodes_(nodes),
        options_(options),
        step_(step),
        metric_(model, pairs, metric, first),
        plain_(model, pairs, metric_, options.direction),
        read_(metric_.site(plain_.which())),
        patterns_(plain_.base()),
        positions_(pairs.count() * plain_.streams().front().size(1)) {
    for (const SweepSpec& spec : nodes) {
      made_.sweeps.push_back(
          no_sums(spec, config_, plain_.streams().front().size(1), pairs.count(), options.each));
    }
    made_.clean = plain_.clean();
    made_.corrupt = plain_.corrupt();
    made_.evaluations = 2 * positions_ * depth();
  }

  NodeTile run() {
    switch (options_.method) {
      case NodeMethod::atp:
      case NodeMethod::atp_qk:
      case NodeMethod::atp_star: on_base_run(); break;
      case NodeMethod::ig: along_sites(); break;
      case NodeMethod::ig_inputs: along_inputs(); break;
    }
    return std::move(made_);
  }

 private:
  int depth() const { return metric_.depth(); }
  const SiteReadOut* read() const { return read_ ? &*read_ : nullptr; }
  const at::Tensor& stream(int layer) const {
    return plain_.streams()[static_cast<std::size_t>(layer)];
  }
  bool fixes() const {
    return options_.method == NodeMethod::atp_qk || options_.method == NodeMethod::atp_star;
  }
  bool drops() const { return options_.method == NodeMethod::atp_star; }
  // Gradients are of minus the metric, along what the base run is changed by.
  double sign() const { return options_.direction == Direction::noising ? 1.0 : -1.0; }
  void count_back(std::int64_t times) { made_.backwards += positions_ * times; }

  // What the nodes of a block become, and the patterns that come of it.
  struct Changes {
    NodePlain::Values values = {};  // other run's less the base run's
    at::Tensor of_q = {};           // [b, H, query, key]: the pattern by the other run's queries
    at::Tensor of_k = {};
    std::optional<KeyByKey> by_key = {};
  };

  Changes changes_of(int layer, const NodePlain::Values& own) {
    Changes made;
    NodePlain::Values compared = own;
    const auto is_node = [&](const SweepSpec& spec) { return spec.part == Part::pattern; };
    if (std::ranges::none_of(nodes_, is_node)) compared.erase(Part::pattern);
    const NodePlain::Values others = plain_.others(layer, compared);
    made_.evaluations += positions_;
    for (const auto& [part, value] : compared)
      made.values[part] = widened(others.at(part)) - widened(value);
    if (!fixes()) return made;
    for (const SweepSpec& spec : nodes_) {
      if (spec.part != Part::q && spec.part != Part::k) continue;
      const at::Tensor& q = own.at(Part::q);
      const at::Tensor& k = own.at(Part::k);
      if (spec.part == Part::k && has_position(spec)) {
        if (!made.by_key) made.by_key = patterns_.key_by_key(layer, q, k, others.at(Part::k));
        continue;
      }
      at::Tensor& change = spec.part == Part::q ? made.of_q : made.of_k;
      if (change.defined()) continue;
      change = (spec.part == Part::q ? patterns_(layer, others.at(Part::q), k)
                                     : patterns_(layer, q, others.at(Part::k))) -
               widened(own.at(Part::pattern));
    }
    return made;
  }

  // [b, nodes]: the gradient times the change of each node.
  at::Tensor linear(const SweepSpec& spec, const Changes& changes,
                    const NodeBlock::Gradients& gradients) const {
    const at::Tensor& change = changes.values.at(spec.part);
    const auto found = gradients.parts.find(spec.part);
    if (found == gradients.parts.end() || !found->second.defined())
      return by_node(at::zeros_like(change), spec);
    return by_node(found->second * change * sign(), spec);
  }

  bool is_fixed(const SweepSpec& spec) const {
    return fixes() && (spec.part == Part::q || spec.part == Part::k);
  }

  // The same by way of the pattern, where queries or keys are given a softmax of their own.
  at::Tensor estimate(const SweepSpec& spec, const Changes& changes,
                      const NodeBlock::Gradients& gradients) const {
    if (!is_fixed(spec)) return linear(spec, changes, gradients);
    const auto found = gradients.parts.find(Part::pattern);
    if (found == gradients.parts.end() || !found->second.defined())
      return by_node(at::zeros_like(changes.values.at(spec.part)), spec);
    const at::Tensor& gradient = found->second;
    at::Tensor part;  // [b, T or 1, heads]
    if (spec.part == Part::q) {
      part = (gradient * changes.of_q).sum(3).transpose(1, 2);
    } else if (has_position(spec)) {
      part = changes.by_key->along(gradient, config_.kv_heads);
    } else {
      part = (gradient * changes.of_k).sum({2, 3});
      part = part.view({part.size(0), 1, config_.kv_heads, -1}).sum(3);
    }
    return by_node(part.unsqueeze(3) * sign(), spec);
  }

  // The sites of a block to watch.
  std::vector<Part> watched(int layer) const {
    std::set<Part> parts = parts_of(nodes_, config_, layer);
    if (fixes() && (parts.contains(Part::q) || parts.contains(Part::k))) {
      for (const Part part : {Part::q, Part::k, Part::pattern}) parts.insert(part);
    }
    return {parts.begin(), parts.end()};
  }

  static NodePlain::Values values_of(const NodeBlock& block, const std::vector<Part>& parts) {
    NodePlain::Values own;
    for (const Part part : parts) own[part] = block.value(part);
    return own;
  }

  // The gradient at the stream that leaves the last block; undefined where it is read before.
  at::Tensor from_above(const at::Tensor& last) const {
    return read_ ? at::Tensor() : metric_.gradient(last, plain_.which());
  }

  void put_all(int layer, const std::vector<NodeEstimates>& estimates) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) put(made_.sweeps[i], layer, estimates[i]);
  }

  void on_base_run() {
    // Gradients at the stream: of the plain pass, and of those that a block is left out of.
    std::vector<at::Tensor> passes = {from_above(plain_.streams().back())};
    for (int layer = depth() - 1; layer >= 0; --layer) {
      const std::vector<Part> parts = watched(layer);
      NodeBlock block(plain_.base(), layer, stream(layer), parts, read());
      made_.evaluations += positions_;
      const Changes changes = changes_of(layer, values_of(block, parts));
      std::vector<NodeEstimates> estimates(nodes_.size());
      at::Tensor own;
      if (drops()) own = without(layer, passes.front(), parts, changes, estimates);
      for (std::size_t i = 0; i < passes.size(); ++i) {
        const NodeBlock::Gradients found = block.back(passes[i], i + 1 == passes.size());
        count_back(1);
        take(layer, changes, found, i == 0, estimates);
        passes[i] = found.stream;
      }
      if (drops()) passes.push_back(own);
      put_all(layer, estimates);
      step_();
    }
  }

  void take(int layer, const Changes& changes, const NodeBlock::Gradients& found, bool plain,
            std::vector<NodeEstimates>& estimates) const {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (!changes.values.contains(nodes_[i].part) || !has_part(config_, nodes_[i].part, layer))
        continue;
      const at::Tensor value = estimate(nodes_[i], changes, found);
      if (plain) {
        estimates[i].add(value);
        if (is_fixed(nodes_[i])) estimates[i].consider(linear(nodes_[i], changes, found));
        // What a block before this one writes does not lie behind its nodes.
        if (drops()) estimates[i].drop(value, layer);
      } else {
        estimates[i].drop(value, 1);
      }
      estimates[i].consider(value);
    }
  }

  // The pass that this block's own writes are left out of. They are no way for what the block's
  // components write, but the stream goes past them.
  at::Tensor without(int layer, const at::Tensor& post, const std::vector<Part>& parts,
                     const Changes& changes, std::vector<NodeEstimates>& estimates) {
    NodeBlock::Gradients found;
    if (read_ && read_->site.layer == layer) {
      NodeBlock block(plain_.base(), layer, stream(layer), parts, read(), NodeBlock::Writes::cut);
      found = block.back({}, true);
      made_.evaluations += positions_;
      count_back(1);
    } else {
      found.stream = post;
      for (const Part part : parts) {
        if (is_stream(part)) found.parts[part] = post;
      }
    }
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (!is_stream(nodes_[i].part)) continue;
      const at::Tensor value = estimate(nodes_[i], changes, found);
      estimates[i].drop(value, 1);
      estimates[i].consider(value);
    }
    return found.stream;
  }

  // Runs the rest of the blocks on the stream that enters `layer`, `streams` being what enters
  // each.
  at::Tensor run_from(int layer, at::Tensor current, std::vector<at::Tensor>& streams,
                      std::vector<Intervention> edits) {
    for (int at = layer; at < depth(); ++at) {
      streams[static_cast<std::size_t>(at)] = current;
      if (read_ && at + 1 == depth()) return {};  // it is read in the pass with the graph
      current =
          plain_.base().block(at, current, {}, std::exchange(edits, {})).at({Part::resid_post, at});
      made_.evaluations += positions_;
    }
    return current;
  }

  void along_inputs() {
    std::vector<std::vector<NodeEstimates>> estimates(static_cast<std::size_t>(depth()),
                                                      std::vector<NodeEstimates>(nodes_.size()));
    for (const IgPoint& point : ig_points(options_.points, options_.steps)) {
      std::vector<at::Tensor> streams(static_cast<std::size_t>(depth()));
      at::Tensor post = run_from(0, plain_.between(of_other(point)), streams, {});
      if (!read_) post = from_above(post);
      for (int layer = depth() - 1; layer >= 0; --layer) {
        const auto place = static_cast<std::size_t>(layer);
        const std::vector<Part> parts = watched(layer);
        NodeBlock block(plain_.base(), layer, streams[place], parts, read());
        streams[place] = at::Tensor();
        made_.evaluations += 2 * positions_;
        count_back(1);
        const Changes changes = changes_of(layer, own_values(layer, parts));
        const NodeBlock::Gradients found = block.back(post, true);
        add_point(layer, point, changes, found, estimates[place]);
        post = found.stream;
      }
      step_();
    }
    for (int layer = 0; layer < depth(); ++layer)
      put_all(layer, estimates[static_cast<std::size_t>(layer)]);
  }

  void along_sites() {
    for (int layer = 0; layer < depth(); ++layer) {
      std::vector<NodeEstimates> estimates(nodes_.size());
      for (const Part part : parts_of(nodes_, config_, layer)) {
        const NodePlain::Values own = own_values(layer, {part});
        made_.evaluations += positions_;
        const Changes changes = changes_of(layer, own);
        for (const IgPoint& point : ig_points(options_.points, options_.steps)) {
          const at::Tensor held =
              (widened(own.at(part)) + of_other(point) * changes.values.at(part))
                  .to(own.at(part).scalar_type());
          add_point(layer, point, changes, at_held(layer, part, held), estimates);
          step_();
        }
      }
      put_all(layer, estimates);
    }
  }

  // Gradients at a site that holds a value of its own.
  NodeBlock::Gradients at_held(int layer, Part part, const at::Tensor& held) {
    const bool enters = part == Part::resid_pre;
    std::vector<Intervention> edits;
    if (!enters) edits.push_back({.site = {part, layer}, .edit = Put{held}});
    std::vector<at::Tensor> streams(static_cast<std::size_t>(depth()));
    at::Tensor post = run_from(layer, enters ? held : stream(layer), streams, std::move(edits));
    if (!read_) post = from_above(post);
    for (int above = depth() - 1; above > layer; --above) {
      const auto place = static_cast<std::size_t>(above);
      NodeBlock block(plain_.base(), above, streams[place], {}, read());
      post = block.back(post, true).stream;
      streams[place] = at::Tensor();
    }
    NodeBlock block(plain_.base(), layer, streams[static_cast<std::size_t>(layer)], {part}, read(),
                    NodeBlock::Writes::followed,
                    enters ? HeldSite() : HeldSite{.part = part, .value = held});
    made_.evaluations += positions_ * (depth() - layer);
    count_back(depth() - layer);
    return block.back(post, true);
  }

  void add_point(int layer, const IgPoint& point, const Changes& changes,
                 const NodeBlock::Gradients& found, std::vector<NodeEstimates>& estimates) const {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (!changes.values.contains(nodes_[i].part) || !has_part(config_, nodes_[i].part, layer))
        continue;
      const at::Tensor value = linear(nodes_[i], changes, found);
      estimates[i].add(value, point.weight);
      estimates[i].consider(value);
    }
  }

  // How far from the base run to the other one a point lies.
  double of_other(const IgPoint& point) const {
    return options_.direction == Direction::noising ? 1.0 - point.clean : point.clean;
  }

  // What sites of a block hold in the base run.
  NodePlain::Values own_values(int layer, const std::vector<Part>& parts) const {
    std::vector<Record> wanted;
    for (const Part part : parts) wanted.emplace_back(Site{part, layer}, "node", Reduce());
    const Cache cache = plain_.base().block(layer, stream(layer), std::move(wanted));
    NodePlain::Values own;
    for (const Part part : parts) own[part] = cache.at({part, layer}, "node");
    return own;
  }

  const ModelConfig& config_;
  const std::vector<SweepSpec>& nodes_;
  const NodeOptions& options_;
  const std::function<void()>& step_;
  TileMetric metric_;
  NodePlain plain_;
  std::optional<SiteReadOut> read_;
  PatternOf patterns_;
  std::int64_t positions_;
  NodeTile made_ = {};
};

}  // namespace

std::int64_t node_steps(const ModelConfig& config, int depth, const std::vector<SweepSpec>& nodes,
                        const NodeOptions& options) {
  const auto points = static_cast<std::int64_t>(ig_points(options.points, options.steps).size());
  switch (options.method) {
    case NodeMethod::ig_inputs: return points;
    case NodeMethod::ig: {
      std::int64_t sites = 0;
      for (int layer = 0; layer < depth; ++layer)
        sites += static_cast<std::int64_t>(parts_of(nodes, config, layer).size());
      return sites * points;
    }
    default: break;
  }
  return depth;
}

NodeTile score_nodes(const Model& model, const Pairs& pairs, std::int64_t first,
                     const std::vector<SweepSpec>& nodes, const Metric& metric,
                     const NodeOptions& options, const std::function<void()>& step) {
  return NodeTileRun(model, pairs, first, nodes, metric, options, step).run();
}

}  // namespace plumb
