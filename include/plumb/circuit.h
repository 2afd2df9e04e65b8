// A circuit: components of a model and the paths between them, with scores.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace plumb {

/// A component. Names follow the design: "input@0", "a0@0", "a0.h1@0", "m1@0", "m2.n90@0",
/// "sink[l=3,h=4]", "sink[3-9]", "logits".
struct CircuitNode {
  std::string name = {};
  std::string kind = {};          ///< "input", "attention", "head", "mlp", "neuron", "sink", "logits"
  int layer = -1;                 ///< -1 for input, one past the last block for logits
  double score = 0.0;             ///< what the graph's `convention` says
  std::map<std::string, std::string> notes = {};  ///< shown on hover, kept by every format
};

/// A directed path from one component's output to another's input.
struct CircuitEdge {
  std::string from = {};
  std::string to = {};
  double score = 0.0;             ///< signed: negative = the sender works against the read-out
  std::string kind = {};          ///< "", "or" (alternatives of which either suffices), "eraser"
};

struct Circuit {
  std::string title = {};
  std::string convention = {};    ///< one sentence: what a score is, its sign and its unit
  std::vector<CircuitNode> nodes = {};
  std::vector<CircuitEdge> edges = {};
};

/// Throws bad_argument if a name occurs twice, an edge names an unknown node, an edge runs against
/// the order of the forward pass, or a score is not finite.
void check(const Circuit& circuit);

/// Removes nodes and edges that lie on no path from a node of kind "input" to one of kind "sink"
/// or "logits".
Circuit prune_dead_ends(const Circuit& circuit);

/// The components every path from input to read-out must pass, in order of depth.
std::vector<std::string> bottlenecks(const Circuit& circuit);

/// Graphviz text: ranked by layer, width by |score|, erasers red and dashed, alternatives dotted,
/// with a legend; attributes carry every field, so that nothing is lost. Deterministic.
std::string to_dot(const Circuit& circuit);

/// Writes `to_dot` to the path, and `path` with extension .svg beside it if Graphviz's `dot` program
/// is found. Returns whether the drawing was made. Throws bad_file if a file cannot be written.
bool draw(const Circuit& circuit, const std::filesystem::path& dot_file);

}  // namespace plumb
