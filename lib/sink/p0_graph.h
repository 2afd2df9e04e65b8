// The located circuit as a graph.
#pragma once

#include "sink/p0_context.h"

namespace plumb {

/// What the graph leaves as a rung's evidence.
struct GraphEvidence {
  at::Tensor recovered;  ///< [B] share of the projection that survives when only the graph's edges
                         ///< carry position 0's own values; undefined if there is no path
  double largest_cut = 0;    ///< share lost when the most important single edge is cut
  std::string largest_edge;  ///< "a0->m0"
};

/// Builds report.circuit, and report.graph, paths and alternatives with it: the fewest paths inside
/// position 0 found that keep the projection (a cut path carries the sender's mean over t > 0 for
/// this reader alone), a junction where any one of several routes suffices, the neurons of a writer
/// where few carry it, and the erasers.
GraphEvidence build_graph(P0Context& context, std::size_t wave, WaveReport& report);

/// The circuits of all waves in one graph.
Circuit join_circuits(const std::vector<WaveReport>& reports);

}  // namespace plumb
