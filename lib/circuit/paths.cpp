#include <algorithm>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/dominator_tree.hpp>
#include <boost/graph/reverse_graph.hpp>

#include "circuit/graph.h"
#include "plumb/circuit.h"

namespace plumb {
namespace {

using Vertex = boost::graph_traits<CircuitGraph>::vertex_descriptor;

// Adds a vertex before all inputs and one after all read-outs; returns them.
std::pair<Vertex, Vertex> add_ends(const Circuit& circuit, CircuitGraph& graph) {
  const Vertex start = boost::add_vertex(graph);
  const Vertex end = boost::add_vertex(graph);
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) {
    if (is_source(circuit.nodes[i])) boost::add_edge(start, i, graph);
    if (is_read_out(circuit.nodes[i])) boost::add_edge(i, end, graph);
  }
  return {start, end};
}

template <typename Graph>
std::vector<bool> reachable(const Graph& graph, Vertex from) {
  std::vector<boost::default_color_type> colors(boost::num_vertices(graph));
  boost::breadth_first_search(graph, from,
                              boost::color_map(boost::make_iterator_property_map(
                                  colors.begin(), boost::get(boost::vertex_index, graph))));
  std::vector<bool> reached(colors.size());
  for (std::size_t i = 0; i < colors.size(); ++i) reached[i] = colors[i] != boost::white_color;
  return reached;
}

}  // namespace

Circuit prune_dead_ends(const Circuit& circuit) {
  check(circuit);
  CircuitGraph graph = graph_of(circuit, true);
  const auto [start, end] = add_ends(circuit, graph);
  const std::vector<bool> forward = reachable(graph, start);
  const std::vector<bool> backward = reachable(boost::make_reverse_graph(graph), end);
  const auto index = index_of(circuit);
  const auto alive = [&](const std::string& name) {
    const std::size_t i = index.at(name);
    return forward[i] && backward[i];
  };
  Circuit pruned = {circuit.title, circuit.convention, {}, {}};
  for (const CircuitNode& node : circuit.nodes) {
    if (alive(node.name)) pruned.nodes.push_back(node);
  }
  for (const CircuitEdge& edge : circuit.edges) {
    if (alive(edge.from) && alive(edge.to)) pruned.edges.push_back(edge);
  }
  return pruned;
}

std::vector<std::string> bottlenecks(const Circuit& circuit) {
  check(circuit);
  CircuitGraph graph = graph_of(circuit, false);
  const auto [start, end] = add_ends(circuit, graph);
  // Boost takes predecessors that cannot be reached for real ones, and then finds no dominators.
  const std::vector<bool> forward = reachable(graph, start);
  for (Vertex v = 0; v < forward.size(); ++v) {
    if (!forward[v]) boost::clear_out_edges(v, graph);
  }
  const Vertex none = boost::graph_traits<CircuitGraph>::null_vertex();
  std::vector<Vertex> dominator(boost::num_vertices(graph), none);
  boost::lengauer_tarjan_dominator_tree(
      graph, start,
      boost::make_iterator_property_map(dominator.begin(), boost::get(boost::vertex_index, graph)));
  // What dominates the end are its ancestors in the tree. An unreachable end has none.
  std::vector<std::string> names;
  for (Vertex v = dominator[end]; v != none && v != start; v = dominator[v]) {
    const CircuitNode& node = circuit.nodes[v];
    if (!is_source(node) && !is_read_out(node) && !is_junction(node)) names.push_back(node.name);
  }
  std::reverse(names.begin(), names.end());
  return names;
}

}  // namespace plumb
