#include "sink/p0_graph.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "sink/p0_ledger.h"
#include "sink/p0_pointwise.h"

namespace plumb {

namespace {

constexpr double shown = 0.05;         // share of the projection below which an edge is not drawn
constexpr double neuron_shown = 0.1;   // share of the total above which a neuron is a node of its own

std::string sink_name(const Wave& wave) { return fmt::format("sink[{}-{}]", wave.onset, wave.last); }
std::string at_p0(const std::string& name) { return name + "@0"; }

double share_of(const Ledger& ledger, const std::string& name) {
  for (const auto* rows : {&ledger.components, &ledger.erasers}) {
    for (const auto& row : *rows) {
      if (row.name == name) return row.p0 / ledger.total;
    }
  }
  return 0.0;
}

double mean_of(const at::Tensor& values) { return values.mean().item<double>(); }

class Graph {
 public:
  explicit Graph(Circuit& circuit) : circuit_(circuit) {}

  void node(const std::string& name, const std::string& kind, int layer, double score,
            std::map<std::string, std::string> notes = {}) {
    for (auto& known : circuit_.nodes) {
      if (known.name != name) continue;
      known.notes.merge(notes);
      return;
    }
    circuit_.nodes.push_back({name, kind, layer, score, std::move(notes)});
  }
  void edge(const std::string& from, const std::string& to, double score, const std::string& kind) {
    circuit_.edges.push_back({from, to, score, kind});
  }

 private:
  Circuit& circuit_;
};

}  // namespace

GraphEvidence build_graph(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  GraphEvidence evidence;
  report.circuit = {.title = fmt::format("P0 sink circuit of layers {}-{}", wave.onset, wave.last)};
  report.circuit.convention =
      "node: share of position 0's projection on the sink direction that it writes; edge: share of that projection "
      "lost when this path alone carries the sender's mean over t > 0; positive = makes the sink";
  if (wave.onset == 0) return evidence;

  std::set<Component> members;
  for (const auto* names : {&report.writers, &report.upstream}) {
    for (const auto& name : *names) members.insert(component_named(name));
  }
  for (const auto& backup : report.backups) {
    for (const auto& name : backup) members.insert(component_named(name));
  }

  P0System system(context, wave.onset);
  const at::Tensor& direction = context.direction[w];
  const at::Tensor clean = system.projection({}, direction);
  const double whole = mean_of(clean);
  const Component read_out{.layer = wave.onset, .mlp = false};

  Graph graph(report.circuit);
  graph.node("input@0", "input", -1, share_of(report.ledger, "input"));
  for (const auto member : members) {
    const auto name = to_string(member);
    graph.node(at_p0(name), member.mlp ? "mlp" : "attention", member.layer, share_of(report.ledger, name));
  }
  graph.node(sink_name(wave), "sink", wave.last, 1.0, {{"mean sink", fmt::format("{:.3f}", wave.mean)}});

  // Paths between members, and each member's direct write.
  std::set<std::pair<Component, Component>> kept;
  std::size_t done = 0;
  for (const auto sender : members) {
    context.tell("cutting paths", static_cast<double>(done++) / static_cast<double>(members.size()));
    for (const auto reader : members) {
      if (!(sender < reader)) continue;
      const at::Tensor left =
          system.projection({.cut = [&](Component s, Component r) { return s == sender && r == reader; }}, direction);
      const double lost = 1.0 - mean_of(left) / whole;
      if (std::abs(lost) < shown) continue;
      kept.emplace(sender, reader);
      const bool backup = std::ranges::any_of(report.backups, [&](const auto& set) {
        return std::ranges::find(set, to_string(reader)) != set.end();
      });
      graph.edge(at_p0(to_string(sender)), at_p0(to_string(reader)), lost, lost < 0 ? "eraser" : backup ? "or" : "");
      if (lost > evidence.largest_cut) {
        evidence.largest_cut = lost;
        evidence.largest_edge = to_string(sender) + "->" + to_string(reader);
      }
    }
    const double written = share_of(report.ledger, to_string(sender));
    if (std::abs(written) >= shown) {
      kept.emplace(sender, read_out);
      const bool backup = std::ranges::any_of(report.backups, [&](const auto& set) {
        return std::ranges::find(set, to_string(sender)) != set.end();
      });
      graph.edge(at_p0(to_string(sender)), sink_name(wave), written, written < 0 ? "eraser" : backup ? "or" : "");
    }
  }
  // What position 0 starts from reaches every component that nothing in the graph feeds.
  for (const auto member : members) {
    const bool fed = std::ranges::any_of(kept, [&](const auto& edge) { return edge.second == member; });
    if (!fed) graph.edge("input@0", at_p0(to_string(member)), std::abs(share_of(report.ledger, to_string(member))), "");
  }
  for (const auto& row : report.ledger.neurons) {
    const auto dot = row.name.find('.');
    const Component mlp = component_named(row.name.substr(0, dot));
    if (mlp.layer >= wave.onset || std::abs(row.p0) < neuron_shown * report.ledger.total) continue;
    if (!members.contains(mlp)) continue;
    graph.node(at_p0(row.name), "neuron", mlp.layer, row.p0 / report.ledger.total);
    graph.edge(at_p0(to_string(mlp)), at_p0(row.name), row.p0 / report.ledger.total, "");
    graph.edge(at_p0(row.name), sink_name(wave), row.p0 / report.ledger.total, "");
  }
  for (const auto& row : report.ledger.erasers) {
    const Component eraser = component_named(row.name);
    if (members.contains(eraser)) continue;
    graph.node(at_p0(row.name), eraser.mlp ? "mlp" : "attention", eraser.layer, row.p0 / report.ledger.total,
               {{"role", "eraser"}});
    graph.edge(at_p0(row.name), sink_name(wave), row.p0 / report.ledger.total, "eraser");
  }

  if (!members.empty()) {
    const auto outside = [&](Component s, Component r) { return !kept.contains({s, r}); };
    evidence.recovered = system.projection({.cut = outside}, direction) / clean;
  }
  return evidence;
}

Circuit join_circuits(const std::vector<WaveReport>& reports) {
  Circuit joined{.title = "P0 sink circuit"};
  Graph graph(joined);
  for (const auto& report : reports) {
    if (joined.convention.empty()) joined.convention = report.circuit.convention;
    for (const auto& node : report.circuit.nodes) {
      graph.node(node.name, node.kind, node.layer, node.score, node.notes);
    }
    for (const auto& edge : report.circuit.edges) {
      const bool known = std::ranges::any_of(joined.edges, [&](const CircuitEdge& other) {
        return other.from == edge.from && other.to == edge.to;
      });
      if (!known) joined.edges.push_back(edge);
    }
  }
  return joined;
}

}  // namespace plumb
