#include "sink/p0_path_graph.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace plumb {

namespace {

// The coarse search keeps well inside the tolerance, so that the fine one has room to choose.
constexpr double coarse_tolerance = 0.03;

double mean_of(const at::Tensor& values) { return values.mean().item<double>(); }

}  // namespace

PathGraph::PathGraph(P0Context& context, std::size_t w, std::vector<Component> replaced)
    : PathGraph(context, w, std::move(replaced), P0System(context, context.waves[w].onset)) {}

PathGraph::PathGraph(P0Context& context, std::size_t w, std::vector<Component> replaced,
                     const FirstTokens& tokens)
    : PathGraph(context, w, std::move(replaced),
                P0System(context, context.waves[w].onset, tokens)) {}

PathGraph::PathGraph(P0Context& context, std::size_t w, std::vector<Component> replaced,
                     P0System system)
    : context_(context),
      system_(std::move(system)),
      direction_(context.direction[w]),
      components_(components_of_blocks(0, context.waves[w].onset)),
      replaced_(std::move(replaced)),
      read_out_{.layer = context.waves[w].onset, .mlp = false} {
  now_ = evaluate({}, nullptr, {});
  clean_ = now_.projection;
  whole_ = mean_of(clean_);
  const auto all = candidates();
  none_ = evaluate({all.begin(), all.end()}, nullptr, {}).projection;
  carries_ = whole_ - mean_of(none_);
  if (!(carries_ > 0.0)) carries_ = std::max(std::abs(whole_), 1e-30);
}

std::vector<PathGraph::Edge> PathGraph::candidates() const {
  std::vector<Edge> edges;
  for (std::size_t r = 0; r <= components_.size(); ++r) {
    const Component reader = r == components_.size() ? read_out_ : components_[r];
    for (std::size_t s = 0; s < r; ++s) edges.emplace_back(components_[s], reader);
  }
  return edges;
}

std::vector<PathGraph::Edge> PathGraph::kept(const std::set<Edge>& cut) const {
  std::vector<Edge> edges;
  std::set<Component> alive{read_out_};
  for (std::size_t i = components_.size() + 1; i-- > 0;) {
    const Component reader = i == components_.size() ? read_out_ : components_[i];
    if (!alive.contains(reader)) continue;
    for (std::size_t s = i; s-- > 0;) {
      if (cut.contains({components_[s], reader})) continue;
      edges.emplace_back(components_[s], reader);
      alive.insert(components_[s]);
    }
  }
  std::ranges::reverse(edges);
  return edges;
}

// `known` differs from what is asked for in readers from `from` on alone.
PathGraph::Evaluated PathGraph::evaluate(const std::set<Edge>& cut, const Evaluated* known,
                                         Component from) {
  std::set<Component> alive;
  for (const auto& [sender, reader] : kept(cut)) alive.insert(sender);
  const P0System::Cuts cuts{.replaced = replaced_,
                            .cut =
                                [&](Component sender, Component reader) {
                                  return cut.contains({sender, reader});
                                },
                            .known = known == nullptr ? nullptr : &known->writes,
                            .from = from,
                            .read = [&](Component component) { return alive.contains(component); }};
  Evaluated found{.writes = system_.writes(cuts)};
  found.projection = system_.state(found.writes, cuts).to(at::kDouble).matmul(direction_);
  return found;
}

at::Tensor PathGraph::current() { return now_.projection; }

at::Tensor PathGraph::carried(const at::Tensor& projection) const {
  return (projection - none_) / carries_;
}

double PathGraph::share(const at::Tensor& projection) const { return mean_of(carried(projection)); }

at::Tensor PathGraph::without(const Edge& edge) {
  std::set<Edge> cut = cut_;
  cut.insert(edge);
  return carried(evaluate(cut, &now_, edge.second).projection);
}

at::Tensor PathGraph::only(const std::set<Edge>& edges) {
  std::set<Edge> cut;
  for (const auto& edge : candidates()) {
    if (!edges.contains(edge)) cut.insert(edge);
  }
  return carried(evaluate(cut, nullptr, {}).projection);
}

at::Tensor PathGraph::all_but(const std::set<Edge>& edges) {
  return carried(evaluate(edges, nullptr, {}).projection);
}

at::Tensor PathGraph::complement() {
  const auto edges = kept();
  return all_but({edges.begin(), edges.end()});
}

at::Tensor PathGraph::lost_without(const std::vector<Component>& components) {
  const at::Tensor left =
      system_.projection({.replaced = components, .cut = {}, .donor = Ablation::mean}, direction_);
  return (clean_ - left) / whole_;
}

void PathGraph::cut_again(const std::set<Edge>& cut) { accept(cut, evaluate(cut, nullptr, {})); }

void PathGraph::drop(const Edge& edge) {
  std::set<Edge> cut = cut_;
  cut.insert(edge);
  cut_again(cut);
}

at::Tensor PathGraph::state_without(const std::set<Edge>& edges) {
  const auto cut = [&](Component sender, Component reader) {
    return edges.contains({sender, reader});
  };
  return system_.state({.replaced = replaced_, .cut = cut}).unsqueeze(1);
}

std::map<PathGraph::Edge, double> PathGraph::sizes() const {
  std::map<Edge, double> sizes;
  at::Tensor input = context_.stream(0).narrow(1, 0, 1).to(at::kDouble);
  std::vector<std::pair<Component, at::Tensor>> changes;
  for (std::size_t r = 0; r <= components_.size(); ++r) {
    const Component reader = r == components_.size() ? read_out_ : components_[r];
    const at::Tensor length = at::linalg_vector_norm(input, 2, c10::IntArrayRef{-1});
    for (const auto& [sender, change] : changes)
      sizes[{sender, reader}] = mean_of(change / length.clamp_min(1e-30));
    if (r == components_.size()) break;
    const auto& value = context_.values.at(reader);
    const at::Tensor own = value.own.to(at::kDouble);
    changes.emplace_back(
        reader, at::linalg_vector_norm(own - value.mean.to(at::kDouble), 2, c10::IntArrayRef{-1}));
    input = input + own;
  }
  return sizes;
}

void PathGraph::accept(const std::set<Edge>& cut, Evaluated found) {
  cut_ = cut;
  now_ = std::move(found);
}

void PathGraph::prune(const std::function<void(double)>& progress) {
  // From the read-out backwards (the order of arXiv:2304.14997): readers before the one at hand are
  // still whole, so that alternatives lose all but one route.
  std::vector<Component> readers = components_;
  readers.push_back(read_out_);
  alive_ = {};
  for (std::size_t i = readers.size(); i-- > 0;) {
    const Component reader = readers[i];
    progress(0.8 * (1.0 - static_cast<double>(i) / static_cast<double>(readers.size())));
    if (reader != read_out_ && !alive_.contains(reader)) {
      for (std::size_t s = 0; s < i; ++s) cut_.emplace(components_[s], reader);
      continue;
    }
    std::vector<std::pair<double, Component>> ranked;
    for (std::size_t s = 0; s < i; ++s) {
      const auto& value = context_.values.at(components_[s]);
      const at::Tensor change = (value.own - value.mean).to(at::kDouble).matmul(direction_);
      ranked.emplace_back(std::abs(mean_of(change)), components_[s]);
    }
    std::ranges::stable_sort(ranked, {}, &std::pair<double, Component>::first);
    std::vector<Component> senders;
    for (const auto& [size, sender] : ranked) senders.push_back(sender);
    try_cutting(reader, senders);
  }
  double done = 0.8;
  while (drop_weakest()) progress(done = std::min(0.99, done + 0.05));
}

void PathGraph::try_cutting(Component reader, const std::vector<Component>& senders) {
  if (senders.empty()) return;
  std::set<Edge> cut = cut_;
  for (const auto sender : senders) cut.emplace(sender, reader);
  Evaluated found = evaluate(cut, nullptr, {});
  const double value = share(found.projection);
  if (std::abs(value - share(current())) <= claimed_share &&
      std::abs(value - 1.0) <= coarse_tolerance) {
    accept(cut, std::move(found));
    return;
  }
  if (senders.size() == 1) {
    alive_.insert(senders.front());
    return;
  }
  const auto middle = senders.begin() + static_cast<std::ptrdiff_t>(senders.size() / 2);
  try_cutting(reader, {senders.begin(), middle});
  try_cutting(reader, {middle, senders.end()});
}

// One round: the edges in the order of what their cut changes now, each cut if the graph stays
// within the tolerance. False if none could be spared.
bool PathGraph::drop_weakest() {
  now_ = evaluate(cut_, nullptr, {});
  const double here = share(current());
  std::vector<std::pair<double, Edge>> ranked;
  for (const auto& edge : kept())
    ranked.emplace_back(std::abs(here - mean_of(without(edge))), edge);
  std::ranges::stable_sort(ranked, {}, &std::pair<double, Edge>::first);
  bool dropped = false;
  for (const auto& [change, edge] : ranked) {
    if (change > 2.0 * graph_tolerance) break;
    std::set<Edge> cut = cut_;
    cut.insert(edge);
    Evaluated found = evaluate(cut, &now_, edge.second);
    if (std::abs(share(found.projection) - 1.0) > graph_tolerance) continue;
    accept(cut, std::move(found));
    dropped = true;
  }
  return dropped;
}

std::string path_name(const PathGraph& graph, const PathGraph::Edge& edge) {
  return to_string(edge.first) + "->" +
         (edge.second == graph.read_out() ? "sink" : to_string(edge.second));
}

}  // namespace plumb
