#include "sink/p0_graph.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "sink/p0_ledger.h"
#include "sink/p0_pointwise.h"

namespace plumb {

namespace {

constexpr double step_tolerance =
    0.02;  // share of the projection that one cut, or group of cuts, may change
constexpr double total_tolerance = 0.1;  // ... and all cuts together
constexpr double neuron_shown =
    0.1;  // share of the total above which a neuron is a node of its own

std::string sink_name(const Wave& wave) {
  return fmt::format("sink[{}-{}]", wave.onset, wave.last);
}
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

// Which paths inside position 0 carry the projection on the sink direction. Starts from all of them
// and cuts what is not needed, from the read-out backwards (the order of arXiv:2304.14997): readers
// before the one at hand are still whole, so that alternatives lose all but one route.
class Paths {
 public:
  using Edge = std::pair<Component, Component>;

  Paths(P0Context& context, std::size_t w)
      : system_(context, context.waves[w].onset),
        direction_(context.direction[w]),
        components_(components_of_blocks(0, context.waves[w].onset)),
        read_out_{.layer = context.waves[w].onset, .mlp = false} {
    clean_ = system_.projection({}, direction_);
    current_ = whole_ = mean_of(clean_);
  }

  void prune(const Ledger& ledger, const std::function<void(double)>& progress) {
    std::vector<Component> readers = components_;
    readers.push_back(read_out_);
    for (std::size_t i = readers.size(); i-- > 0;) {
      const Component reader = readers[i];
      progress(1.0 - static_cast<double>(i) / static_cast<double>(readers.size()));
      if (reader != read_out_ && !matters(reader)) {
        for (const auto sender : components_) cut_.emplace(sender, reader);
        continue;
      }
      std::vector<Component> senders;
      for (const auto sender : components_) {
        if (sender < reader) senders.push_back(sender);
      }
      std::ranges::stable_sort(senders, {}, [&](Component sender) {
        return std::abs(share_of(ledger, to_string(sender)));
      });
      try_cutting(reader, senders);
    }
    drop_weakest();
  }

  /// Edges that are left and lie on a path to the read-out, with the share lost when each is cut.
  std::vector<std::pair<Edge, double>> scored() {
    std::vector<std::pair<Edge, double>> edges;
    for (const auto& edge : kept()) {
      const double left = value_with({edge});
      edges.emplace_back(edge, (current_ - left) / whole_);
    }
    return edges;
  }

  at::Tensor recovered() { return projection({}) / clean_; }
  Component read_out() const { return read_out_; }

 private:
  bool matters(Component component) const { return alive_.contains(component); }

  std::vector<Edge> kept() const {
    std::vector<Edge> edges;
    std::set<Component> alive{read_out_};
    for (std::size_t i = components_.size() + 1; i-- > 0;) {
      const Component reader = i == components_.size() ? read_out_ : components_[i];
      if (!alive.contains(reader)) continue;
      for (const auto sender : components_) {
        if (!(sender < reader) || cut_.contains({sender, reader})) continue;
        edges.emplace_back(sender, reader);
        alive.insert(sender);
      }
    }
    return edges;
  }

  at::Tensor projection(const std::vector<Edge>& also) {
    const auto is_cut = [&](Component sender, Component reader) {
      return cut_.contains({sender, reader}) ||
             std::ranges::find(also, Edge{sender, reader}) != also.end();
    };
    return system_.projection({.replaced = {}, .cut = is_cut}, direction_);
  }
  double value_with(const std::vector<Edge>& also) { return mean_of(projection(also)); }

  // What was kept only because earlier cuts had used up the tolerance: weakest first, as long as
  // the graph stays within it.
  void drop_weakest() {
    auto edges = scored();
    std::ranges::stable_sort(edges, {}, [](const auto& edge) { return std::abs(edge.second); });
    for (const auto& [edge, score] : edges) {
      if (std::abs(score) > step_tolerance) break;
      const double value = value_with({edge});
      if (std::abs(value - whole_) > total_tolerance * whole_) continue;
      cut_.insert(edge);
      current_ = value;
    }
  }

  void try_cutting(Component reader, const std::vector<Component>& senders) {
    if (senders.empty()) return;
    std::vector<Edge> edges;
    for (const auto sender : senders) edges.emplace_back(sender, reader);
    const double value = value_with(edges);
    if (std::abs(value - current_) <= step_tolerance * whole_ &&
        std::abs(value - whole_) <= total_tolerance * whole_) {
      cut_.insert(edges.begin(), edges.end());
      current_ = value;
      return;
    }
    if (senders.size() == 1) {
      alive_.insert(senders.front());
      return;
    }
    const auto middle = senders.begin() + static_cast<std::ptrdiff_t>(senders.size() / 2);
    try_cutting(reader, {senders.begin(), middle});
    try_cutting(reader, {middle, senders.end()});
  }

  P0System system_;
  const at::Tensor& direction_;
  std::vector<Component> components_;
  Component read_out_;
  at::Tensor clean_;
  double whole_ = 0.0;
  double current_ = 0.0;
  std::set<Edge> cut_;
  std::set<Component> alive_;  // senders some kept edge starts from
};

}  // namespace

GraphEvidence build_graph(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  GraphEvidence evidence;
  report.circuit = {.title = fmt::format("P0 sink circuit of layers {}-{}", wave.onset, wave.last)};
  report.circuit.convention =
      "node: share of position 0's projection on the sink direction that it writes; edge: share of "
      "that projection "
      "lost when this path carries the sender's mean over t > 0, all paths not drawn carrying it "
      "already; positive = "
      "makes the sink";
  if (wave.onset == 0) return evidence;

  Paths paths(context, w);
  paths.prune(report.ledger, [&](double done) { context.tell("cutting paths", done); });
  const auto edges = paths.scored();
  const auto in_backup = [&](Component component) {
    return std::ranges::any_of(report.backups, [&](const auto& set) {
      return std::ranges::find(set, to_string(component)) != set.end();
    });
  };

  Graph graph(report.circuit);
  graph.node("input@0", "input", -1, share_of(report.ledger, "input"));
  std::set<Component> members;
  for (const auto& [edge, lost] : edges) members.insert(edge.first);
  for (const auto member : members) {
    const auto name = to_string(member);
    graph.node(at_p0(name), member.mlp ? "mlp" : "attention", member.layer,
               share_of(report.ledger, name));
  }
  graph.node(sink_name(wave), "sink", wave.last, 1.0,
             {{"mean sink", fmt::format("{:.3f}", wave.mean)}});
  for (const auto member : members) {
    const bool fed =
        std::ranges::any_of(edges, [&](const auto& edge) { return edge.first.second == member; });
    if (!fed)
      graph.edge("input@0", at_p0(to_string(member)),
                 std::abs(share_of(report.ledger, to_string(member))), "");
  }
  for (const auto& [edge, lost] : edges) {
    const auto& [sender, reader] = edge;
    const bool last = reader == paths.read_out();
    const bool alternative = in_backup(sender) && (last || in_backup(reader));
    graph.edge(at_p0(to_string(sender)), last ? sink_name(wave) : at_p0(to_string(reader)), lost,
               lost < 0      ? "eraser"
               : alternative ? "or"
                             : "");
    if (lost > evidence.largest_cut) {
      evidence.largest_cut = lost;
      evidence.largest_edge =
          to_string(sender) + "->" + (last ? sink_name(wave) : to_string(reader));
    }
  }
  for (const auto& row : report.ledger.neurons) {
    const Component mlp = component_named(row.name.substr(0, row.name.find('.')));
    if (!members.contains(mlp) || std::abs(row.p0) < neuron_shown * report.ledger.total) continue;
    graph.node(at_p0(row.name), "neuron", mlp.layer, row.p0 / report.ledger.total);
    graph.edge(at_p0(row.name), at_p0(to_string(mlp)), row.p0 / report.ledger.total, "");
  }
  for (const auto& row : report.ledger.erasers) {
    const Component eraser = component_named(row.name);
    if (members.contains(eraser)) continue;
    graph.node(at_p0(row.name), eraser.mlp ? "mlp" : "attention", eraser.layer,
               row.p0 / report.ledger.total, {{"role", "eraser"}});
    graph.edge(at_p0(row.name), sink_name(wave), row.p0 / report.ledger.total, "eraser");
  }
  if (!members.empty()) evidence.recovered = paths.recovered();
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
