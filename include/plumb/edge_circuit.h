// A circuit as a set of edges of a model: which are in, and the score of every edge.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plumb/circuit.h"
#include "plumb/edges.h"

namespace plumb {

/// Some of a model's edges. One byte and one number for each edge of the model: 1.6 million edges
/// (Llama-3-8B with a key head for every head) are 14 MB.
///
/// A component stands for all that it does: a head that any edge into its query, key or value
/// reaches is reached, and an edge into a key head reaches every head of its group.
struct EdgeCircuit {
  EdgeSpace space = {};
  std::vector<std::uint8_t> in = {};  ///< [edges] 1 = in the circuit
  std::vector<double> scores = {};    ///< [edges], of all edges, in the circuit or not
  int d_model = 0;                    ///< of the model; 0 = not known
  std::string title = {};
  std::string convention = {};  ///< one sentence: what a score is, its sign and its unit
};

/// No edge is in; all scores are 0.
EdgeCircuit empty_circuit(const EdgeSpace& space);
/// Every edge is in.
EdgeCircuit full_circuit(const EdgeSpace& space);
/// The scores, no edge being in. Of scores by position, their sums. Throws bad_argument unless all
/// are finite and there is one for each edge.
EdgeCircuit scored_circuit(const EdgeScores& scores, int d_model = 0);
EdgeScores scores_of(const EdgeCircuit& circuit);

/// Throws bad_argument where the lists are not one entry for each edge, an entry of `in` is neither
/// 0 nor 1, or a score is not finite.
void check(const EdgeCircuit& circuit);

std::int64_t count_edges(const EdgeCircuit& circuit);  ///< those that are in
/// Which senders an edge of the circuit leaves or enters, [senders]: the input, heads and MLPs. Of
/// heads that share a key head entered, those that no edge leaves count only if none leaves any.
std::vector<std::uint8_t> senders_in(const EdgeCircuit& circuit);
/// Their number, as EAP-IG counts nodes: the logits are none.
std::int64_t count_nodes(const EdgeCircuit& circuit);

/// Without what lies on no path from the input to the logits. The same edges that EAP-IG's pruning
/// leaves, which removes components without an edge in or out until none is left.
EdgeCircuit pruned(EdgeCircuit circuit);

// Selections keep the scores and replace what is in. "Absolute" goes by the score's size; else
// large scores come first, and edges that work against the metric last. Nothing is pruned.

/// Edges of a score not below the threshold.
EdgeCircuit above_threshold(EdgeCircuit circuit, double threshold, bool absolute);
/// The n edges of the largest scores; of equal ones those of the earlier sender, then of the
/// earlier receiver. Throws bad_argument unless n is from 0 to the number of edges.
EdgeCircuit top_edges(EdgeCircuit circuit, std::int64_t n, bool absolute);
/// EAP-IG's greedy choice, from the logits back: n times the edge of the largest score among those
/// that enter a component which is in already. Fewer where no more can be reached.
EdgeCircuit greedy_edges(EdgeCircuit circuit, std::int64_t n, bool absolute);

/// Of two circuits of one model: the scores and words of the first. Throw bad_argument where the
/// models' edges differ.
EdgeCircuit united(EdgeCircuit a, const EdgeCircuit& b);
EdgeCircuit shared(EdgeCircuit a, const EdgeCircuit& b);
EdgeCircuit without(EdgeCircuit a, const EdgeCircuit& b);
/// The edges that are not in.
EdgeCircuit complement(EdgeCircuit circuit);

struct Overlap {
  std::int64_t a = 0;     ///< edges of the first circuit
  std::int64_t b = 0;     ///< of the second
  std::int64_t both = 0;  ///< of both
  double jaccard = 1.0;   ///< both / either; 1 where both are empty
  std::int64_t nodes_a = 0;
  std::int64_t nodes_b = 0;
  std::int64_t nodes_both = 0;
  double nodes_jaccard = 1.0;
  double pearson = 0.0;   ///< of the scores of all edges; NaN where one list is constant
  double spearman = 0.0;  ///< of their ranks, equal scores sharing theirs
};
Overlap compare(const EdgeCircuit& a, const EdgeCircuit& b);

/// As many edges as the circuit has, drawn from all edges alike.
EdgeCircuit random_edges(const EdgeCircuit& like, std::uint64_t seed);
enum class Matching {
  layers,  ///< as many edges from each sender's layer to each receiver's layer as the circuit has
  scores,  ///< as many edges of each tenth of all edges, by the score's size
};
/// Edges drawn at random that the circuit does not have where there are enough of them, and matched
/// to it as said: what the circuit's own edges add beyond where they lie, or how large they are.
EdgeCircuit matched_edges(const EdgeCircuit& like, Matching matching, std::uint64_t seed);

/// The circuit's components and edges by name, for drawing: an edge of a head has the kind "q",
/// "k" or "v"; one into a key head goes to each head of its group that the circuit has. A
/// component's score is the sum of those of the edges that leave it.
Circuit named(const EdgeCircuit& circuit);

}  // namespace plumb
