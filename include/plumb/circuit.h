// A circuit: components of a model and the paths between them, with scores.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A component. Names follow the design: "input@0", "a0@0", "a0.h1@0", "m1@0", "m2.n90@0",
/// "sink[l=3,h=4]", "sink[3-9]", "logits".
struct CircuitNode {
  std::string name = {};
  /// "input", "attention", "head", "mlp", "neuron", "expert", "sink", "logits"; "or" = a junction
  std::string kind = {};
  /// -1 for input, one past the last block for logits; for a sink read off several layers the first
  int layer = -1;
  double score = 0.0;                             ///< what the graph's `convention` says
  std::map<std::string, std::string> notes = {};  ///< shown on hover, kept by every format
};

/// 95 % bootstrap bounds of a score, over sequences.
struct ScoreInterval {
  double low = 0.0;
  double high = 0.0;
};

/// A directed path from one component's output to another's input.
struct CircuitEdge {
  std::string from = {};
  std::string to = {};
  double score = 0.0;  ///< signed: negative = the sender works against the read-out
  /// "", "or" (alternatives of which either suffices), "eraser"; of an edge into a head "q", "k" or
  /// "v" where it is known what the head reads there
  std::string kind = {};
  std::optional<ScoreInterval> interval = {};  ///< where the score is a mean over sequences
};

struct Circuit {
  std::string title = {};
  std::string convention = {};  ///< one sentence: what a score is, its sign and its unit
  std::vector<CircuitNode> nodes = {};
  std::vector<CircuitEdge> edges = {};
};

/// Throws bad_argument if a name occurs twice, a kind is unknown, an edge occurs twice or names an
/// unknown node, an edge runs against the order of the forward pass, a score or a bound is not
/// finite, or an interval ends before it begins.
///
/// The order: input, then for each layer its sinks (read off its attention), heads, attention,
/// experts and neurons, MLP (parts may feed their whole), "or", then logits. A sink over a range
/// of layers, "sink[3-9]", may be fed by what writes before the last of them. An edge of kind
/// "eraser" may reach a sink from any layer, for erasing is what ends it.
void check(const Circuit& circuit);

/// Removes nodes and edges that lie on no path from a node of kind "input" to one of kind "sink"
/// or "logits". Erasers are paths too.
Circuit prune_dead_ends(const Circuit& circuit);

/// The components that every path from an input to a read-out passes, in order of depth, inputs,
/// "or" and read-outs left out; none if nothing reaches a read-out. Edges of kind "eraser" do not
/// count as ways there. Alternatives (kind "or") count as any edge: what one of them can go around
/// is no bottleneck, so a knock-out of a bottleneck is expected to matter and of an alternative is
/// not.
std::vector<std::string> bottlenecks(const Circuit& circuit);

/// {"title", "convention", "nodes": [{"name", "kind", "layer", "score", "notes"}], "edges":
/// [{"from", "to", "score", "kind", "interval": [low, high]}]} on one line, losslessly, the
/// interval where there is one; `check` is called first.
std::string to_json(const Circuit& circuit);

/// Reads what `to_json` wrote; title, convention, notes and an edge's kind and interval may be
/// missing. Throws bad_file for anything else: other keys, other types, repeated keys, what `check`
/// refuses.
Circuit circuit_from_json(std::string_view json);

/// Graphviz text: one rank per layer, width by |score| relative to the largest, erasers red and
/// dashed, alternatives dotted, with a legend; attributes of our own ("plumb_...") carry every
/// field, so that nothing is lost. Deterministic. Calls `check` first.
std::string to_dot(const Circuit& circuit);

/// Reads what `to_dot` wrote, nodes in the order of the columns. Control characters in names and
/// notes have become spaces, other than line breaks. Throws bad_file for anything else, and what
/// `check` refuses.
Circuit circuit_from_dot(std::string_view dot);

/// Writes `to_dot` to the path, and `path` with extension .svg beside it if Graphviz's `dot`
/// program is found. Returns whether the drawing was made; a `dot` that fails or takes longer than
/// two minutes makes none. Throws bad_file if a file cannot be written.
bool draw(const Circuit& circuit, const std::filesystem::path& dot_file);

}  // namespace plumb
