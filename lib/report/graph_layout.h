// Where the nodes and edges of a circuit stand in a drawing: rows from the input down.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plumb/circuit.h"

namespace plumb::report {

struct PlacedNode {
  double x = 0;  ///< of its middle
  double y = 0;
  double width = 0;
  double height = 0;
  int row = 0;
};

struct PlacedEdge {
  /// From the sender to the receiver; in rows between them the edge runs straight down (or up).
  std::vector<std::pair<double, double>> points = {};
};

struct GraphLayout {
  std::vector<PlacedNode> nodes = {};  ///< in the circuit's order
  std::vector<PlacedEdge> edges = {};
  std::vector<std::string> rows = {};  ///< what stands beside each row: "layer 3", or nothing
  std::vector<double> row_y = {};
  double width = 0;
  double height = 0;
};

/// A layered drawing (Sugiyama): a row for every place in the forward pass that a component of the
/// circuit has, a sink below the last of its writers; long edges get places of their own in the
/// rows they cross; rows are ordered by barycentres, and places found by least squares under the
/// order. Deterministic.
GraphLayout lay_out(const Circuit& circuit);

/// The `most` strongest edges and the nodes that they touch; all of it if it has no more than
/// `most` edges and nodes.
Circuit strongest_part(const Circuit& circuit, std::size_t most);

}  // namespace plumb::report
