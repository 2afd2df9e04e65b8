#include "checkpoint/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "checkpoint/printable.h"
#include "plumb/circuit.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr int kDeepest = 4;  // document, list, node or edge, notes or interval
constexpr std::size_t kLargest = 256 << 20;
constexpr double kAnyNumber = std::numeric_limits<double>::max();

// Refuses keys outside `known`.
Fields object(const Json& json, const std::string& where, const std::vector<std::string>& known) {
  Fields fields(json, where);
  for (const auto& [key, value] : json.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}: the field {} is unknown", where, printable(key)));
    }
  }
  return fields;
}

const Json& list(const Fields& fields, const std::string& name) {
  const Json& value = fields.raw(name);
  if (!value.is_array()) fields.wrong(name, "a list");
  return value;
}

CircuitNode node_of(const Json& json, std::size_t place) {
  const Fields fields = object(json, fmt::format("circuit JSON: node {}", place),
                               {"name", "kind", "layer", "score", "notes"});
  CircuitNode node;
  node.name = fields.text("name");
  node.kind = fields.text("kind");
  node.layer = static_cast<int>(fields.integer("layer", -1, std::numeric_limits<int>::max()));
  node.score = fields.number("score", -kAnyNumber, kAnyNumber);
  if (fields.has("notes")) {
    const Fields notes = fields.object("notes");
    for (const auto& [key, value] : notes.json().items()) node.notes[key] = notes.text(key);
  }
  return node;
}

CircuitEdge edge_of(const Json& json, std::size_t place) {
  const Fields fields = object(json, fmt::format("circuit JSON: edge {}", place),
                               {"from", "to", "score", "kind", "interval"});
  CircuitEdge edge{fields.text("from"), fields.text("to"),
                   fields.number("score", -kAnyNumber, kAnyNumber), fields.text("kind", "")};
  if (fields.has("interval")) {
    const Json& bounds = list(fields, "interval");
    if (bounds.size() != 2 || !bounds[0].is_number() || !bounds[1].is_number())
      fields.wrong("interval", "two numbers");
    edge.interval = ScoreInterval{bounds[0].get<double>(), bounds[1].get<double>()};
  }
  return edge;
}

}  // namespace

std::string to_json(const Circuit& circuit) {
  using Ordered = nlohmann::ordered_json;
  check(circuit);
  Ordered nodes = Ordered::array();
  for (const CircuitNode& node : circuit.nodes) {
    nodes.push_back({{"name", node.name},
                     {"kind", node.kind},
                     {"layer", node.layer},
                     {"score", node.score},
                     {"notes", node.notes}});
  }
  Ordered edges = Ordered::array();
  for (const CircuitEdge& edge : circuit.edges) {
    edges.push_back(
        {{"from", edge.from}, {"to", edge.to}, {"score", edge.score}, {"kind", edge.kind}});
    if (edge.interval) edges.back()["interval"] = {edge.interval->low, edge.interval->high};
  }
  const Ordered document = {{"title", circuit.title},
                            {"convention", circuit.convention},
                            {"nodes", std::move(nodes)},
                            {"edges", std::move(edges)}};
  return document.dump(-1, ' ', false, Ordered::error_handler_t::replace);
}

Circuit circuit_from_json(std::string_view text) {
  const std::string where = "circuit JSON";
  if (text.size() > kLargest) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {} bytes are too many", where, text.size()));
  }
  const Json document = parse_json(text, where, kDeepest);
  const Fields fields = object(document, where, {"title", "convention", "nodes", "edges"});
  Circuit circuit;
  circuit.title = fields.text("title", "");
  circuit.convention = fields.text("convention", "");
  for (const Json& node : list(fields, "nodes")) {
    circuit.nodes.push_back(node_of(node, circuit.nodes.size()));
  }
  for (const Json& edge : list(fields, "edges")) {
    circuit.edges.push_back(edge_of(edge, circuit.edges.size()));
  }
  try {
    check(circuit);
  } catch (const Error& error) {
    throw Error(ErrorKind::bad_file, error.what());
  }
  return circuit;
}

}  // namespace plumb
