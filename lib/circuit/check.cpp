#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <tuple>

#include "circuit/graph.h"
#include "plumb/circuit.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// The order within one layer: sinks are read off its attention; parts come before their whole.
// A junction comes after the last of its senders.
constexpr std::array<std::string_view, 9> kOrder = {"sink", "head", "attention", "expert", "neuron",
                                                    "mlp",  "or",   "logits",    "input"};
constexpr int kDeepestLayer = 1'000'000;

// Names may hold anything; the message is one line.
[[noreturn]] void refuse(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  throw Error(ErrorKind::bad_argument, "circuit: " + message);
}

std::size_t place_of(std::string_view kind) {
  return static_cast<std::size_t>(std::find(kOrder.begin(), kOrder.end(), kind) - kOrder.begin());
}

// A sink read off several layers, "sink[3-9]", can be fed up to the last of them.
int last_layer(const CircuitNode& node) {
  const std::string_view name = node.name;
  const std::string_view mark = "sink[";
  if (name.substr(0, mark.size()) != mark) return node.layer;
  int first = 0;
  int last = 0;
  const char* const end = name.data() + name.size();
  const auto low = std::from_chars(name.data() + mark.size(), end, first);
  if (low.ec != std::errc() || low.ptr == end || *low.ptr != '-') return node.layer;
  const auto high = std::from_chars(low.ptr + 1, end, last);
  return high.ec == std::errc() ? std::max(last, node.layer) : node.layer;
}

void check_node(const CircuitNode& node) {
  if (node.name.empty()) refuse("a node has no name");
  if (place_of(node.kind) == kOrder.size()) {
    refuse(fmt::format("node '{}' has the unknown kind '{}'", node.name, node.kind));
  }
  if (is_source(node) ? node.layer != -1 : node.layer < 0 || node.layer > kDeepestLayer) {
    refuse(fmt::format("node '{}' of kind {} cannot be in layer {}", node.name, node.kind,
                       node.layer));
  }
  if (!std::isfinite(node.score))
    refuse(fmt::format("the score of node '{}' is not finite", node.name));
}

void check_edge(const CircuitEdge& edge, const CircuitNode& from, const CircuitNode& to) {
  const std::string name = fmt::format("edge '{}' -> '{}'", edge.from, edge.to);
  constexpr std::array<std::string_view, 6> kinds = {"", "or", "eraser", "q", "k", "v"};
  if (std::find(kinds.begin(), kinds.end(), edge.kind) == kinds.end()) {
    refuse(fmt::format("{} has the unknown kind '{}'", name, edge.kind));
  }
  if (!std::isfinite(edge.score)) refuse(fmt::format("the score of {} is not finite", name));
  if (edge.interval) {
    const auto [low, high] = *edge.interval;
    if (!std::isfinite(low) || !std::isfinite(high) || low > high)
      refuse(fmt::format("the interval of {} has no two bounds in order", name));
  }
  if (is_read_out(from)) refuse(fmt::format("{} leaves a read-out", name));
  // An eraser ends a sink, so that it writes after the layers at which the sink is read.
  if (edge.kind == "eraser" && to.kind == "sink") return;
  CircuitNode reader = to;
  if (to.kind == "sink") reader.layer = last_layer(to);
  if (rank_of(from) >= rank_of(reader)) {
    refuse(fmt::format("{} runs against the order of the forward pass", name));
  }
}

}  // namespace

std::map<std::string, std::size_t> index_of(const Circuit& circuit) {
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) index.emplace(circuit.nodes[i].name, i);
  return index;
}

CircuitGraph graph_of(const Circuit& circuit, bool with_erasers) {
  const auto index = index_of(circuit);
  CircuitGraph graph(circuit.nodes.size());
  for (const CircuitEdge& edge : circuit.edges) {
    if (edge.kind == "eraser" && !with_erasers) continue;
    boost::add_edge(index.at(edge.from), index.at(edge.to), graph);
  }
  return graph;
}

long rank_of(const CircuitNode& node) {
  if (is_source(node)) return -1;
  return static_cast<long>(kOrder.size()) * node.layer + static_cast<long>(place_of(node.kind));
}

void check(const Circuit& circuit) {
  for (const CircuitNode& node : circuit.nodes) check_node(node);
  const auto index = index_of(circuit);
  if (index.size() != circuit.nodes.size()) {
    std::set<std::string> seen;
    for (const CircuitNode& node : circuit.nodes) {
      if (!seen.insert(node.name).second)
        refuse(fmt::format("two nodes are named '{}'", node.name));
    }
  }
  std::set<std::tuple<std::string, std::string, std::string>> seen;
  for (const CircuitEdge& edge : circuit.edges) {
    for (const std::string& end : {edge.from, edge.to}) {
      if (!index.contains(end)) {
        refuse(
            fmt::format("edge '{}' -> '{}' names '{}', which is no node", edge.from, edge.to, end));
      }
    }
    check_edge(edge, circuit.nodes[index.at(edge.from)], circuit.nodes[index.at(edge.to)]);
    if (!seen.emplace(edge.from, edge.to, edge.kind).second) {
      refuse(fmt::format("edge '{}' -> '{}' occurs twice", edge.from, edge.to));
    }
  }
}

}  // namespace plumb
