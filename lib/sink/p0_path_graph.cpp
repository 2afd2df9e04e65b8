#include "sink/p0_path_graph.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "sink/p0_contrast.h"

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

PathGraph::Evaluated PathGraph::evaluate(const std::set<Edge>& cut, const Evaluated* known,
                                         Component from) {
  return std::move(evaluate({{.cut = cut, .known = known, .from = from}}).front());
}

std::vector<PathGraph::Evaluated> PathGraph::evaluate(const std::vector<Question>& questions) {
  std::vector<std::set<Component>> alive(questions.size());
  std::vector<P0System::Cuts> all;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const Question& question = questions[i];
    for (const auto& [sender, reader] : kept(question.cut)) alive[i].insert(sender);
    all.push_back({.replaced = replaced_,
                   .cut =
                       [&question](Component sender, Component reader) {
                         return question.cut.contains({sender, reader});
                       },
                   .added = question.added,
                   .known = question.known == nullptr ? nullptr : &question.known->writes,
                   .from = question.from,
                   .read = [&read = alive[i]](Component sender) { return read.contains(sender); }});
  }
  std::vector<P0System::Writes> writes = system_.writes(all);
  std::vector<Evaluated> found;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const at::Tensor state = system_.state(writes[i], all[i]);
    found.push_back(
        {.writes = std::move(writes[i]), .projection = state.to(at::kDouble).matmul(direction_)});
  }
  return found;
}

at::Tensor PathGraph::current() { return now_.projection; }

at::Tensor PathGraph::carried(const at::Tensor& projection) const {
  return (projection - none_) / carries_;
}

double PathGraph::share(const at::Tensor& projection) const { return mean_of(carried(projection)); }

at::Tensor PathGraph::without(const Edge& edge) {
  look_ahead({edge});
  return without_.at(edge);
}

void PathGraph::look_ahead(const std::vector<Edge>& edges) {
  std::vector<Edge> asked;
  std::vector<Question> questions;
  for (const auto& edge : edges) {
    if (without_.contains(edge)) continue;
    std::set<Edge> cut = cut_;
    cut.insert(edge);
    asked.push_back(edge);
    questions.push_back({.cut = std::move(cut), .known = &now_, .from = edge.second});
  }
  const auto found = evaluate(questions);
  for (std::size_t i = 0; i < asked.size(); ++i) without_[asked[i]] = carried(found[i].projection);
}

at::Tensor PathGraph::disturbed(const Edge& edge, Random& random, int draws) {
  const at::Tensor change = system_.donor(edge.first, Ablation::mean) - now_.writes.at(edge.first);
  std::vector<Question> questions;
  for (int i = 0; i < draws; ++i) {
    questions.push_back({.cut = cut_,
                         .known = &now_,
                         .from = edge.second,
                         .added = {{edge, random_of_size(change, random)}}});
  }
  at::Tensor sum = at::zeros_like(now_.projection);
  for (const auto& found : evaluate(questions)) sum = sum + carried(found.projection);
  return sum / static_cast<double>(draws);
}

std::set<PathGraph::Edge> PathGraph::others(const std::set<Edge>& edges) const {
  std::set<Edge> left;
  for (const auto& edge : candidates()) {
    if (!edges.contains(edge)) left.insert(edge);
  }
  return left;
}

at::Tensor PathGraph::only(const std::set<Edge>& edges) { return all_but(others(edges)); }

at::Tensor PathGraph::all_but(const std::set<Edge>& edges) {
  return all_but(std::vector{edges}).front();
}

std::vector<at::Tensor> PathGraph::all_but(const std::vector<std::set<Edge>>& sets) {
  std::vector<Question> questions;
  for (const auto& set : sets) questions.push_back({.cut = set});
  std::vector<at::Tensor> left;
  for (const auto& found : evaluate(questions)) left.push_back(carried(found.projection));
  return left;
}

at::Tensor PathGraph::complement() {
  const auto edges = kept();
  return all_but(std::set<Edge>(edges.begin(), edges.end()));
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

std::vector<at::Tensor> PathGraph::states_without(const std::vector<std::set<Edge>>& sets) {
  std::vector<P0System::Cuts> all;
  for (const auto& set : sets) {
    all.push_back({.replaced = replaced_, .cut = [&set](Component sender, Component reader) {
                     return set.contains({sender, reader});
                   }});
  }
  std::vector<at::Tensor> states = system_.states(all);
  for (auto& state : states) state = state.unsqueeze(1);
  return states;
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
  without_.clear();
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
  std::vector<Edge> edges = kept();
  look_ahead(edges);
  const double here = share(current());
  std::vector<std::pair<double, Edge>> ranked;
  for (const auto& edge : edges) ranked.emplace_back(std::abs(here - mean_of(without(edge))), edge);
  std::ranges::stable_sort(ranked, {}, &std::pair<double, Edge>::first);
  std::erase_if(ranked, [](const auto& entry) { return entry.first > 2.0 * graph_tolerance; });
  bool dropped = false;
  std::size_t together = 1;
  for (std::size_t first = 0; first < ranked.size();) {
    // Several are tried as if those before them stayed; from one that goes on they are tried anew.
    const std::size_t last = std::min(ranked.size(), first + together);
    std::vector<Edge> tried;
    edges = kept();
    for (std::size_t i = first; i < last; ++i) {
      // What led to an edge that went before is cut off already.
      if (std::ranges::find(edges, ranked[i].second) != edges.end())
        tried.push_back(ranked[i].second);
    }
    look_ahead(tried);
    const auto spared = std::ranges::find_if(tried, [&](const Edge& edge) {
      return std::abs(mean_of(without(edge)) - 1.0) <= graph_tolerance;
    });
    if (spared == tried.end()) {
      first = last;
      together *= 2;
      continue;
    }
    first = 1 + static_cast<std::size_t>(
                    std::ranges::find(ranked, *spared, &std::pair<double, Edge>::second) -
                    ranked.begin());
    together = 2;
    std::set<Edge> cut = cut_;
    cut.insert(*spared);
    accept(cut, evaluate(cut, &now_, spared->second));
    dropped = true;
  }
  return dropped;
}

std::string path_name(const PathGraph& graph, const PathGraph::Edge& edge) {
  return to_string(edge.first) + "->" +
         (edge.second == graph.read_out() ? "sink" : to_string(edge.second));
}

}  // namespace plumb
