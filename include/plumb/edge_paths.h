// What an edge circuit is made of: its bottlenecks, cuts and strongest paths.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plumb/edge_circuit.h"
#include "plumb/edge_run.h"
#include "plumb/progress.h"

namespace plumb {

/// The heads and MLPs that every path from the input to the logits passes, in order (dominators;
/// Lengauer and Tarjan 1979). None if nothing arrives, or an edge leads straight there.
std::vector<std::string> bottlenecks(const EdgeCircuit& circuit);

/// A smallest set of heads and MLPs without which nothing arrives at the logits, in order (Menger;
/// by the largest flow). Nothing where the input feeds the logits directly, for then there is none;
/// empty where nothing arrives anyway. Of several smallest sets that nearest the input.
std::optional<std::vector<std::string>> smallest_cut(const EdgeCircuit& circuit);

/// A way from the input to the logits.
struct EdgePath {
  std::vector<std::int64_t> edges = {};  ///< from the input on
  double share = 0.0;                    ///< of all paths, 0 to 1
  double weakest = 0.0;                  ///< the score of smallest size on it
  int sign = 1;                          ///< the product of the scores' signs
};
/// The k paths of the largest share. A path's share is the product, over its edges, of the part
/// that the edge's score has, by size, in the sum of those into the same component (of a head: into
/// its query, key and value together); the shares of all paths sum to 1. Of the pruned circuit.
/// Throws bad_argument unless k is from 1 to 10,000, or where the sum of the sizes of scores into a
/// component of the circuit is 0.
std::vector<EdgePath> strongest_paths(const EdgeCircuit& circuit, std::int64_t k);
/// How many paths there are; infinite where a double does not hold the number.
double count_paths(const EdgeCircuit& circuit);
/// "input -> a0.h1<v> -> m2 -> logits".
std::string path_name(const EdgeSpace& space, const EdgePath& path);

struct SearchOptions {
  double threshold = 0.01;  ///< an edge goes if the loss rises by less than this
  bool absolute = false;    ///< ... or moves by less
  std::function<bool(std::int64_t edge)> among = {};  ///< which edges are tried; all if empty
  std::optional<EdgeEnds> ends = {};  ///< where edges end; at the logits if left out
};
/// ACDC (arXiv:2304.14997): from the circuit given, components from the logits back to the input,
/// each edge into them is taken out and stays out if `loss` of what is left (smaller = more like
/// the model) rises by less than the threshold. Components that nothing leaves are dropped on the
/// way. One call of `loss` for each edge, and one at the start.
EdgeCircuit search_edges(EdgeCircuit circuit, const std::function<double(const EdgeCircuit&)>& loss,
                         const SearchOptions& options = {}, const Progress& progress = {});

}  // namespace plumb
