#include "plumb/edge_paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>
#include <boost/graph/dominator_tree.hpp>
#include <cmath>
#include <queue>

#include "circuit/edge_nodes.h"
#include "plumb/error.h"
#include "plumb/evaluate.h"

namespace plumb {
namespace {

constexpr std::int64_t kMostPaths = 10'000;

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Calls visit(from, to) once for every pair of components that an edge joins; the logits are the
// component behind the last sender.
template <typename Visit>
void for_each_link(const EdgeCircuit& circuit, Visit visit) {
  const EdgeSpace& space = circuit.space;
  const std::int64_t logits = space.senders();
  // Receivers of one component are not neighbours, so links are collected by component.
  std::vector<std::vector<std::int64_t>> receivers(size(logits) + 1);
  for (std::int64_t receiver = 0; receiver + 1 < space.receivers(); ++receiver) {
    const auto [from, to] = fed_by(space, receiver);
    for (std::int64_t node = from; node < to; ++node) receivers[size(node)].push_back(receiver);
  }
  if (space.edges() > 0) receivers.back().push_back(space.receivers() - 1);
  for (std::int64_t node = 0; node <= logits; ++node) {
    std::vector<std::uint8_t> linked;
    for (const std::int64_t receiver : receivers[size(node)]) {
      linked.resize(size(space.seen_by(receiver)), 0);
      for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
        if (has(circuit, space.first_edge(receiver) + sender)) linked[size(sender)] = 1;
      }
    }
    for (std::size_t sender = 0; sender < linked.size(); ++sender) {
      if (linked[sender] != 0) visit(static_cast<std::int64_t>(sender), node);
    }
  }
}

// An edge into a component, and what part of all that enters it the edge is.
struct Entry {
  std::int64_t edge = 0;
  std::int64_t sender = 0;
  double part = 0.0;
};

// Of each component, the logits last, the edges that enter it. An edge into a key head enters each
// head of its group.
std::vector<std::vector<Entry>> entries_of(const EdgeCircuit& circuit, bool weighed) {
  const EdgeSpace& space = circuit.space;
  std::vector<std::vector<Entry>> entries(size(space.senders()) + 1);
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    auto [from, to] = fed_by(space, receiver);
    if (from == to) ++to;  // the logits
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      if (!has(circuit, edge)) continue;
      for (std::int64_t node = from; node < to; ++node)
        entries[size(node)].push_back({edge, sender, std::abs(score(circuit, edge))});
    }
  }
  if (!weighed) return entries;
  for (std::size_t node = 0; node < entries.size(); ++node) {
    double sum = 0.0;
    for (const Entry& entry : entries[node]) sum += entry.part;
    if (entries[node].empty()) continue;
    if (sum == 0.0 || !std::isfinite(sum)) {
      const auto index = static_cast<std::int64_t>(node);
      throw Error(ErrorKind::bad_argument,
                  fmt::format("paths are told apart by scores, and those of the edges into {} {}",
                              index == space.senders() ? "logits" : space.sender_name(index),
                              sum == 0.0 ? "are all 0" : "have no finite sum"));
    }
    for (Entry& entry : entries[node]) entry.part /= sum;
  }
  return entries;
}

std::vector<std::string> names_of(const EdgeSpace& space, std::vector<std::int64_t> nodes) {
  std::sort(nodes.begin(), nodes.end());
  std::vector<std::string> names;
  for (const std::int64_t node : nodes) names.push_back(space.sender_name(node));
  return names;
}

}  // namespace

std::vector<std::string> bottlenecks(const EdgeCircuit& circuit) {
  const EdgeCircuit whole = pruned(circuit);
  using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS>;
  if (count_edges(whole) == 0) return {};
  const auto logits = size(whole.space.senders());
  Graph graph(logits + 1);
  for_each_link(whole, [&](std::int64_t from, std::int64_t to) {
    boost::add_edge(size(from), size(to), graph);
  });
  const auto none = boost::graph_traits<Graph>::null_vertex();
  std::vector<Graph::vertex_descriptor> dominator(logits + 1, none);
  boost::lengauer_tarjan_dominator_tree(
      graph, 0,
      boost::make_iterator_property_map(dominator.begin(), boost::get(boost::vertex_index, graph)));
  std::vector<std::int64_t> nodes;
  for (auto node = dominator[logits]; node != none && node != 0; node = dominator[node])
    nodes.push_back(static_cast<std::int64_t>(node));
  return names_of(whole.space, std::move(nodes));
}

// Every component is a gate of capacity 1 from its entry to its exit, and every link is wide open:
// a largest flow then fills the gates of a smallest cut.
std::optional<std::vector<std::string>> smallest_cut(const EdgeCircuit& circuit) {
  const EdgeCircuit whole = pruned(circuit);
  const EdgeSpace& space = whole.space;
  if (count_edges(whole) == 0) return std::vector<std::string>();
  if (has(whole, space.first_edge(space.receivers() - 1))) return std::nullopt;
  using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
  struct Pipe {
    int capacity = 0;
    int left = 0;
    Traits::edge_descriptor back = {};
  };
  using Graph =
      boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, boost::no_property, Pipe>;
  const std::int64_t logits = space.senders();
  // Component n is entered at 2 n and left at 2 n + 1.
  Graph graph(2 * (size(logits) + 1));
  const int wide = static_cast<int>(logits) + 1;
  const auto pipe = [&](std::int64_t from, std::int64_t to, int capacity) {
    const auto there = boost::add_edge(size(from), size(to), graph).first;
    const auto back = boost::add_edge(size(to), size(from), graph).first;
    graph[there] = {capacity, 0, back};
    graph[back] = {0, 0, there};
  };
  const auto used = senders_in(whole);
  for (std::int64_t node = 1; node < logits; ++node) {
    if (used[size(node)] != 0) pipe(2 * node, 2 * node + 1, 1);
  }
  for_each_link(whole,
                [&](std::int64_t from, std::int64_t to) { pipe(2 * from + 1, 2 * to, wide); });
  const auto count = boost::num_vertices(graph);
  const auto index = boost::get(boost::vertex_index, graph);
  std::vector<boost::default_color_type> colors(count);
  std::vector<Traits::edge_descriptor> before(count);
  std::vector<int> distance(count);
  boost::boykov_kolmogorov_max_flow(
      graph, boost::get(&Pipe::capacity, graph), boost::get(&Pipe::left, graph),
      boost::get(&Pipe::back, graph), boost::make_iterator_property_map(before.begin(), index),
      boost::make_iterator_property_map(colors.begin(), index),
      boost::make_iterator_property_map(distance.begin(), index), index, 1, 2 * size(logits));
  // What the flow's rest still reaches from the input; gates that lead out of it are full.
  std::vector<std::uint8_t> reached(count, 0);
  std::queue<std::size_t> next;
  reached[1] = 1;
  next.push(1);
  while (!next.empty()) {
    const std::size_t at = next.front();
    next.pop();
    for (auto [edge, end] = boost::out_edges(at, graph); edge != end; ++edge) {
      const std::size_t to = boost::target(*edge, graph);
      if (graph[*edge].left <= 0 || reached[to] != 0) continue;
      reached[to] = 1;
      next.push(to);
    }
  }
  std::vector<std::int64_t> nodes;
  for (std::int64_t node = 1; node < logits; ++node) {
    // Other heads of a group entered have no gate: nothing leaves them.
    if (used[size(node)] != 0 && reached[size(2 * node)] != 0 && reached[size(2 * node + 1)] == 0)
      nodes.push_back(node);
  }
  return names_of(space, std::move(nodes));
}

// From the input on, each component keeps the k best ways to it. The share of a way is its product
// of parts; what it is worth at the logits is decided behind it, alike for all ways to a component.
std::vector<EdgePath> strongest_paths(const EdgeCircuit& circuit, std::int64_t k) {
  check(circuit);
  if (k < 1 || k > kMostPaths) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("from 1 to {} paths can be listed, not {}", kMostPaths, k));
  }
  const EdgeCircuit whole = pruned(circuit);
  const auto entries = entries_of(whole, true);
  // A way: the entry taken last, and which of its sender's ways came before.
  struct Way {
    double share = 0.0;
    const Entry* entry = nullptr;
    std::size_t rank = 0;
  };
  std::vector<std::vector<Way>> ways(entries.size());
  ways[0] = {{1.0, nullptr, 0}};
  for (std::size_t node = 1; node < entries.size(); ++node) {
    // Ways to a sender come by falling share: a heap of the best one not yet taken of each entry.
    const auto less = [&](const Way& a, const Way& b) {
      if (a.share != b.share) return a.share < b.share;
      if (a.entry->edge != b.entry->edge) return a.entry->edge > b.entry->edge;
      return a.rank > b.rank;
    };
    std::priority_queue<Way, std::vector<Way>, decltype(less)> heads(less);
    const auto offer = [&](const Entry& entry, std::size_t rank) {
      const auto& before = ways[size(entry.sender)];
      if (rank < before.size()) heads.push({before[rank].share * entry.part, &entry, rank});
    };
    for (const Entry& entry : entries[node]) offer(entry, 0);
    while (!heads.empty() && std::ssize(ways[node]) < k) {
      const Way best = heads.top();
      heads.pop();
      ways[node].push_back(best);
      offer(*best.entry, best.rank + 1);
    }
  }
  std::vector<EdgePath> paths;
  for (const Way& last : ways.back()) {
    EdgePath path{.share = last.share};
    for (const Way* way = &last; way->entry != nullptr;
         way = &ways[size(way->entry->sender)][way->rank])
      path.edges.push_back(way->entry->edge);
    std::reverse(path.edges.begin(), path.edges.end());
    path.weakest = score(whole, path.edges.front());
    for (const std::int64_t edge : path.edges) {
      if (std::abs(score(whole, edge)) < std::abs(path.weakest)) path.weakest = score(whole, edge);
      if (score(whole, edge) < 0) path.sign = -path.sign;
    }
    paths.push_back(std::move(path));
  }
  return paths;
}

double count_paths(const EdgeCircuit& circuit) {
  check(circuit);
  const auto entries = entries_of(pruned(circuit), false);
  std::vector<double> ways(entries.size(), 0.0);
  ways[0] = 1.0;
  for (std::size_t node = 1; node < entries.size(); ++node) {
    for (const Entry& entry : entries[node]) ways[node] += ways[size(entry.sender)];
  }
  return ways.back();
}

std::string path_name(const EdgeSpace& space, const EdgePath& path) {
  std::string name = "input";
  for (std::size_t i = 0; i < path.edges.size(); ++i) {
    const std::int64_t receiver = space.ends(path.edges[i]).receiver;
    // The head that goes on, of those that share a key head.
    name += " -> " + (i + 1 < path.edges.size()
                          ? space.sender_name(space.ends(path.edges[i + 1]).sender)
                          : space.receiver_name(receiver));
    const EdgeReceiver::Kind kind = space.receiver(receiver).kind;
    if (kind == EdgeReceiver::Kind::q) name += "<q>";
    if (kind == EdgeReceiver::Kind::k) name += "<k>";
    if (kind == EdgeReceiver::Kind::v) name += "<v>";
  }
  return name;
}

EdgeCircuit search_edges(EdgeCircuit circuit, const std::function<double(const EdgeCircuit&)>& loss,
                         const SearchOptions& options, const Progress& progress) {
  check(circuit);
  if (!loss) throw Error(ErrorKind::bad_argument, "a search needs the loss it goes by");
  const EdgeSpace space = circuit.space;
  const EdgeEnds ends = options.ends ? *options.ends : edge_ends(space, {});
  double now = loss(circuit);
  const std::int64_t all = space.receivers();
  for (std::int64_t receiver = all - 1; receiver >= 0; --receiver) {
    if (progress)
      progress("searching edges",
               static_cast<double>(all - 1 - receiver) / static_cast<double>(all));
    // A component that nothing leaves any more does nothing: its own edges go untried.
    if (!ends.read(receiver)) {
      const Reach reach = reach_of(circuit, ends);
      const auto [from, to] = fed_by(space, receiver);
      if (std::none_of(reach.reaches.begin() + from, reach.reaches.begin() + to,
                       [](std::uint8_t each) { return each != 0; })) {
        for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender)
          circuit.in[size(space.first_edge(receiver) + sender)] = 0;
        continue;
      }
    }
    for (std::int64_t sender = ends.seen_by(space, receiver) - 1; sender >= 0; --sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      if (!has(circuit, edge) || (options.among && !options.among(edge))) continue;
      circuit.in[size(edge)] = 0;
      const double then = loss(circuit);
      const double change = options.absolute ? std::abs(then - now) : then - now;
      if (change < options.threshold) {
        now = then;
      } else {
        circuit.in[size(edge)] = 1;
      }
    }
  }
  return pruned(std::move(circuit), ends);
}

}  // namespace plumb
