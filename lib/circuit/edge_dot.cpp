// Circuits read back from their drawings.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "checkpoint/printable.h"
#include "circuit/dot_reader.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* kWhere = "Graphviz text";
constexpr std::string_view kNote = "plumb_note_";

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", kWhere, what));
}

template <typename Number>
Number number_of(std::string_view text, const std::string& what) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    refuse(fmt::format("the {} is {}, which is no number", what, printable(text)));
  return value;
}

std::string attribute(const DotStatement& statement, const std::string& name) {
  const auto found = statement.attributes.find(name);
  return found == statement.attributes.end() ? std::string() : found->second;
}

bool is_ours(const std::string& name) {  // columns and the legend of the drawing
  return name == "plumb legend" || name.starts_with("plumb column ");
}

struct Read {
  Circuit circuit = {};
  std::string graph = {};  // the model's sizes
};

Read read(std::string_view text) {
  Read made;
  for (const DotStatement& statement : read_dot(text)) {
    if (!statement.to.empty()) {
      if (is_ours(statement.from) || is_ours(statement.to)) continue;
      const std::string score = attribute(statement, "plumb_score");
      if (score.empty()) {
        // Space for the legend.
        if (attribute(statement, "style") == "invis") continue;
        refuse(fmt::format("the edge {} -> {} has no plumb_score", printable(statement.from),
                           printable(statement.to)));
      }
      made.circuit.edges.push_back({statement.from, statement.to, number_of<double>(score, "score"),
                                    attribute(statement, "plumb_kind")});
      const std::string low = attribute(statement, "plumb_low");
      const std::string high = attribute(statement, "plumb_high");
      if (low.empty() && high.empty()) continue;
      made.circuit.edges.back().interval = ScoreInterval{number_of<double>(low, "lower bound"),
                                                         number_of<double>(high, "upper bound")};
    } else if (statement.from == "graph") {
      made.circuit.title = attribute(statement, "plumb_title");
      made.circuit.convention = attribute(statement, "plumb_convention");
      made.graph = attribute(statement, "plumb_graph");
    } else if (statement.attributes.contains("plumb_kind")) {
      CircuitNode node{.name = statement.from, .kind = attribute(statement, "plumb_kind")};
      node.layer = number_of<int>(attribute(statement, "plumb_layer"), "layer");
      node.score = number_of<double>(attribute(statement, "plumb_score"), "score");
      for (const auto& [key, value] : statement.attributes) {
        if (key.starts_with(kNote)) node.notes[key.substr(kNote.size())] = value;
      }
      made.circuit.nodes.push_back(std::move(node));
    }
  }
  return made;
}

}  // namespace

Circuit circuit_from_dot(std::string_view text) {
  Circuit made = read(text).circuit;
  try {
    check(made);
  } catch (const Error& error) {
    refuse(error.what());
  }
  return made;
}

std::string to_dot(const EdgeCircuit& circuit) {
  const EdgeSpace& space = circuit.space;
  std::string text = to_dot(named(circuit));
  const std::string_view mark = "graph [";  // after the text's first word, "digraph circuit {"
  return text.insert(text.find(mark) + mark.size(),
                     fmt::format("plumb_graph=\"{} {} {} {} {}\" ", space.layers(), space.heads(),
                                 space.kv_heads(), space.parallel() ? 1 : 0, circuit.d_model));
}

EdgeCircuit edge_circuit_from_dot(std::string_view text) {
  const Read found = read(text);
  std::array<int, 5> sizes{};
  std::string_view rest = found.graph;
  for (int& each : sizes) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    each = number_of<int>(rest.substr(0, end), "graph's size");
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (sizes[4] < 0 || sizes[0] > 1 << 20 || sizes[1] > 1 << 20)
    refuse("the graph has no such size");
  EdgeCircuit circuit = empty_circuit(
      claimed_space(sizes[0], sizes[1], sizes[2], sizes[3] != 0, text.size(), kWhere));
  circuit.d_model = sizes[4];
  circuit.title = found.circuit.title;
  circuit.convention = found.circuit.convention;
  EdgeFiller filler(circuit, kWhere);
  const EdgeSpace& space = circuit.space;
  const int group = space.heads() / space.kv_heads();
  std::vector<std::uint8_t> drawn(circuit.in.size(), 0);
  for (const CircuitEdge& edge : found.circuit.edges) {
    std::string to = edge.to;
    if (!edge.kind.empty()) {
      const auto head = space.find_sender(edge.to);
      if (!head || space.sender(*head).kind != EdgeSender::Kind::head)
        refuse(fmt::format("an edge of kind {} ends in {}, which is no head", printable(edge.kind),
                           printable(edge.to)));
      const EdgeSender reader = space.sender(*head);
      const int own = edge.kind == "q" ? reader.head : reader.head / group;
      to = fmt::format("a{}.h{}<{}>", reader.layer, own, edge.kind);
    }
    const std::string name = edge.from + "->" + to;
    // One edge into a key head is drawn to each of its heads.
    const bool of_group = group > 1 && (edge.kind == "k" || edge.kind == "v");
    if (const auto known = space.find_edge(name); known && of_group) {
      const auto place = static_cast<std::size_t>(*known);
      if (drawn[place] != 0 && circuit.scores[place] == edge.score) continue;
      drawn[place] = 1;
    }
    filler.put(name, edge.score, true);
  }
  return circuit;
}

}  // namespace plumb
