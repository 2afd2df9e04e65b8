// Components of an edge circuit: what each receiver feeds, and who is reached.
#pragma once

#include <cstdint>
#include <vector>

#include "experiment/edge_feeds.h"
#include "plumb/edge_circuit.h"
#include "plumb/edge_run.h"

namespace plumb {

inline bool has(const EdgeCircuit& circuit, std::int64_t edge) {
  return circuit.in[static_cast<std::size_t>(edge)] != 0;
}
inline double score(const EdgeCircuit& circuit, std::int64_t edge) {
  return circuit.scores[static_cast<std::size_t>(edge)];
}

/// By sender: whether the input reaches it, and whether it reaches the logits, or where the edges
/// end. `reaches` has one entry more, the end's own.
struct Reach {
  std::vector<std::uint8_t> reached = {};
  std::vector<std::uint8_t> reaches = {};
};
Reach reach_of(const EdgeCircuit& circuit);
Reach reach_of(const EdgeCircuit& circuit, const EdgeEnds& ends);

}  // namespace plumb
