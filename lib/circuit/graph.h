// A circuit as a Boost graph: the one place where names become vertices.
#pragma once

#include <boost/graph/adjacency_list.hpp>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "plumb/circuit.h"

namespace plumb {

// Vertex i is node i of the circuit.
using CircuitGraph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS>;

/// Positions of the nodes by name.
std::map<std::string, std::size_t> index_of(const Circuit& circuit);

/// The graph of the edges; those of kind "eraser" only if asked for.
CircuitGraph graph_of(const Circuit& circuit, bool with_erasers);

inline bool is_source(const CircuitNode& node) { return node.kind == "input"; }
inline bool is_read_out(const CircuitNode& node) {
  return node.kind == "sink" || node.kind == "logits";
}

/// Not a component: any one of its senders suffices.
inline bool is_junction(const CircuitNode& node) { return node.kind == "or"; }

/// Where in the forward pass a node writes (a read-out: reads), comparable between nodes.
long rank_of(const CircuitNode& node);

}  // namespace plumb
