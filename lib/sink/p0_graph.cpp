#include "sink/p0_graph.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "plumb/metrics.h"
#include "sink/p0_ledger.h"
#include "sink/p0_path_graph.h"

namespace plumb {

namespace {

constexpr double neuron_shown =
    0.1;  // share of the total above which a neuron is a node of its own
constexpr double carried_by_few = 0.8;  // share of what an MLP writes that its named neurons carry

constexpr std::size_t links_tried = 4;  // against a random change of their size

std::string sink_name(const Wave& wave) {
  return fmt::format("sink[{}-{}]", wave.onset, wave.last);
}
std::string at_p0(const std::string& name) { return name + "@0"; }
std::string at_p0(Component component) { return to_string(component) + "@0"; }

double share_of(const Ledger& ledger, const std::string& name) {
  for (const auto* rows : {&ledger.components, &ledger.erasers}) {
    for (const auto& row : *rows) {
      if (row.name == name) return row.p0 / ledger.total;
    }
  }
  return 0.0;
}

// "n90, n430: 98 %" of what the MLP writes along the direction; nothing if more than the ledger
// names would be needed.
std::string neurons_of(const Ledger& ledger, const std::string& mlp) {
  const double written = share_of(ledger, mlp) * ledger.total;
  std::vector<std::string> names;
  double sum = 0.0;
  for (const auto& row : ledger.neurons) {  // largest first
    if (!row.name.starts_with(mlp + ".") || row.p0 * written <= 0.0) continue;
    names.push_back(row.name.substr(mlp.size() + 1));
    sum += row.p0;
    if (sum / written >= carried_by_few)
      return fmt::format("{}: {:.0f} %", fmt::join(names, ", "), 100.0 * sum / written);
  }
  return "";
}

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
  void component(const Ledger& ledger, Component member,
                 std::map<std::string, std::string> notes = {}) {
    const auto name = to_string(member);
    if (member.mlp) {
      if (const auto few = neurons_of(ledger, name); !few.empty()) notes["neurons"] = few;
    }
    node(at_p0(name), member.mlp ? "mlp" : "attention", member.layer, share_of(ledger, name),
         std::move(notes));
  }
  void edge(const std::string& from, const std::string& to, double score, const std::string& kind,
            std::optional<ScoreInterval> interval = {}) {
    const bool known = std::ranges::any_of(circuit_.edges, [&](const CircuitEdge& other) {
      return other.from == from && other.to == to;
    });
    if (!known) circuit_.edges.push_back({from, to, score, kind, interval});
  }
  void edge(const std::string& from, const std::string& to, const Estimate& score,
            const std::string& kind) {
    edge(from, to, score.mean, kind, ScoreInterval{score.low, score.high});
  }
  bool fed(const std::string& name) const {
    return std::ranges::any_of(circuit_.edges,
                               [&](const CircuitEdge& edge) { return edge.to == name; });
  }

 private:
  Circuit& circuit_;
};

// One wave's graph in the making.
class Builder {
 public:
  Builder(P0Context& context, std::size_t w, WaveReport& report, PathGraph& paths)
      : context_(context),
        w_(w),
        report_(report),
        paths_(paths),
        graph_(report.circuit),
        sink_(sink_name(context.waves[w])) {
    for (const auto& edge : paths.kept()) {
      edges_.push_back(edge);
      members_.insert(edge.first);
    }
  }

  void build(GraphEvidence& evidence) {
    graph_.node("input@0", "input", -1, share_of(report_.ledger, "input"));
    for (const auto member : members_) graph_.component(report_.ledger, member);
    graph_.node(sink_, "sink", context_.waves[w_].last, 1.0,
                {{"mean sink", fmt::format("{:.3f}", context_.waves[w_].mean)}});
    const at::Tensor here = paths_.alone();
    paths_.look_ahead(edges_);
    for (const auto& edge : edges_) {
      const Estimate lost = estimate(here - paths_.without(edge));
      lost_[edge] = lost;
      if (lost.mean <= evidence.largest_cut) continue;
      evidence.largest_cut = lost.mean;
      evidence.largest_edge = to_string(edge.first) + "->" +
                              (edge.second == paths_.read_out() ? sink_ : to_string(edge.second));
    }
    for (const auto& set : report_.alternatives) draw(set);
    for (const auto& edge : edges_) {
      const bool last = edge.second == paths_.read_out();
      if (last && joined_.contains(edge.first)) continue;
      graph_.edge(at_p0(edge.first), last ? sink_ : at_p0(edge.second), lost_.at(edge),
                  last && erases(edge.first) ? "eraser" : "");
    }
    for (const auto member : members_) {
      if (!graph_.fed(at_p0(member))) {
        graph_.edge("input@0", at_p0(member), std::abs(share_of(report_.ledger, to_string(member))),
                    "");
      }
    }
    draw_neurons();
    draw_erasers();
    if (!edges_.empty()) evidence.recovered = paths_.recovered();
  }
  /// The paths whose cut loses most, first the one that loses most of all.
  std::vector<PathGraph::Edge> strongest(std::size_t most) const {
    std::vector<PathGraph::Edge> order = edges_;
    std::ranges::stable_sort(order, std::ranges::greater{},
                             [&](const PathGraph::Edge& edge) { return lost_.at(edge).mean; });
    order.resize(std::min(order.size(), most));
    return order;
  }

 private:
  Estimate estimate(const at::Tensor& by_sequence) const {
    return bootstrap(by_sequence, context_.options.seed);
  }
  Estimate lost_without(const std::vector<Component>& components) const {
    return estimate(paths_.lost_without(components));
  }

  // An eraser writes against the direction itself. An edge whose cut raises the projection for
  // another reason (its reader overshoots) has a negative score and is no eraser.
  bool erases(Component component) const {
    return std::ranges::find(report_.erasers, to_string(component)) != report_.erasers.end();
  }

  // A junction, each route's last component leading to it.
  void draw(const Alternatives& set) {
    std::vector<std::string> words;
    std::vector<Component> everything;
    Component last;
    for (const auto& route : set.routes) {
      words.push_back(fmt::format("{}", fmt::join(route, "+")));
      for (const auto& name : route) everything.push_back(component_named(name));
      last = std::max(last, component_named(route.back()));
    }
    std::ranges::sort(everything);
    const std::string name = fmt::format("or{}@0", ++junctions_);
    for (const auto& route : set.routes) {
      const Component end = end_of(route);
      std::vector<Component> parts;
      for (const auto& part : route) parts.push_back(component_named(part));
      std::map<std::string, std::string> notes;
      if (route.size() > 1) notes["route"] = fmt::format("{}", fmt::join(route, ", "));
      const bool idle = !members_.contains(end);
      if (idle && route.size() == 1) notes["role"] = "idle until the others are cut";
      graph_.component(report_.ledger, end, notes);
      if (idle) {
        members_.insert(end);
        if (route.size() == 1) draw_idle(end, set);
      }
      graph_.edge(at_p0(end), name, lost_without(parts), "or");
      // The way around the junction is drawn only for routes of one component: a longer one may
      // also write by itself.
      if (route.size() == 1) joined_.insert(end);
    }
    const Estimate lost = lost_without(everything);
    graph_.node(name, "or", last.layer, lost.mean,
                {{"any one suffices", fmt::format("{}", fmt::join(words, " | "))}});
    graph_.edge(name, sink_, lost, "");
  }

  // The last component of a route that the graph has, else the last.
  Component end_of(const std::vector<std::string>& route) const {
    for (auto name = route.rbegin(); name != route.rend(); ++name) {
      if (members_.contains(component_named(*name))) return component_named(*name);
    }
    return component_named(route.back());
  }

  // What feeds a backup, found where the others are cut: while they work, nothing depends on it.
  void draw_idle(Component backup, const Alternatives& set) {
    std::vector<Component> others;
    for (const auto& route : set.routes) {
      for (const auto& name : route) {
        if (component_named(name) != backup) others.push_back(component_named(name));
      }
    }
    PathGraph alone(context_, w_, others);
    alone.prune([&](double done) { context_.tell("finding what feeds a backup", done); });
    drop_unconfirmed(context_, w_, alone, others);
    const at::Tensor here = alone.alone();
    alone.look_ahead(alone.kept());
    for (const auto& edge : alone.kept()) {
      if (edge.second != backup) continue;
      const Estimate lost = estimate(here - alone.without(edge));
      graph_.component(report_.ledger, edge.first);
      members_.insert(edge.first);
      graph_.edge(at_p0(edge.first), at_p0(backup), lost, "");
    }
  }

  void draw_neurons() {
    for (const auto& row : report_.ledger.neurons) {
      const Component mlp = component_named(row.name.substr(0, row.name.find('.')));
      const double share = row.p0 / report_.ledger.total;
      if (!members_.contains(mlp) || std::abs(share) < neuron_shown) continue;
      graph_.node(at_p0(row.name), "neuron", mlp.layer, share);
      graph_.edge(at_p0(row.name), at_p0(mlp), share, "");
    }
  }

  void draw_erasers() {
    for (const auto& row : report_.ledger.erasers) {
      const Component eraser = component_named(row.name);
      const at::Tensor written = context_.values.at(eraser).own.to(at::kDouble).flatten(1);
      const Estimate share =
          estimate(written.matmul(context_.direction[w_]) / report_.ledger.total);
      if (share.high >= 0.0) continue;  // not all of it is these few sequences'
      graph_.component(report_.ledger, eraser, {{"role", "eraser"}});
      // Before the onset it is drawn by its effect, where the graph has that path.
      graph_.edge(at_p0(eraser), sink_, share, "eraser");
    }
  }

  P0Context& context_;
  std::size_t w_;
  WaveReport& report_;
  PathGraph& paths_;
  Graph graph_;
  std::string sink_;
  std::vector<PathGraph::Edge> edges_ = {};
  std::map<PathGraph::Edge, Estimate> lost_ = {};
  std::set<Component> members_ = {};
  std::set<Component> joined_ = {};  // those that reach the sink by a junction
  int junctions_ = 0;
};

}  // namespace

GraphEvidence build_graph(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  GraphEvidence evidence;
  report.circuit = {.title = fmt::format("P0 sink circuit of layers {}-{}", wave.onset, wave.last)};
  report.circuit.convention = fmt::format(
      "node: share of position 0's projection on the sink direction that it writes; edge: share "
      "of what all paths carry that is lost when this path carries the sender's mean over t > 0, "
      "all paths not drawn carrying it already, with a 95 % interval over sequences; negative = "
      "the projection grows without it; drawn are the fewest paths found that keep {:.0f} to "
      "{:.0f} %, less those whose effect other tokens put first do not confirm; into and out of "
      "OR: share lost when the component, or every one of the alternatives, is replaced by its "
      "mean",
      100.0 * (1.0 - graph_tolerance), 100.0 * (1.0 + graph_tolerance));
  if (wave.onset == 0) return evidence;
  for (const auto& set : report.backups) {
    Alternatives pair{.shown_by = "pair"};
    for (const auto& name : set) pair.routes.push_back({name});
    report.alternatives.push_back(std::move(pair));
  }

  PathGraph paths(context, w);
  paths.prune([&](double done) { context.tell("cutting paths", done); });
  auto doubtful = drop_unconfirmed(context, w, paths);
  Builder builder(context, w, report, paths);
  builder.build(evidence);
  report.graph = check_graph(context, w, paths, report.contrasts);
  report.graph.doubtful = std::move(doubtful);
  // Where several links lose alike, one that does more than its size is enough.
  for (const auto& edge : builder.strongest(links_tried)) {
    report.contrasts.push_back(check_link(context, w, paths, edge));
    if (report.contrasts.back().exceeds) break;
  }
  report.paths = confirm_paths(context, w, paths);
  return evidence;
}

Circuit join_circuits(const std::vector<WaveReport>& reports) {
  Circuit joined{.title = "P0 sink circuit"};
  Graph graph(joined);
  for (std::size_t w = 0; w < reports.size(); ++w) {
    const auto& report = reports[w];
    if (joined.convention.empty()) joined.convention = report.circuit.convention;
    // Each wave has junctions of its own.
    const auto name = [&](const std::string& known) {
      return known.starts_with("or") ? fmt::format("or{}.{}", w + 1, known.substr(2)) : known;
    };
    for (const auto& node : report.circuit.nodes)
      graph.node(name(node.name), node.kind, node.layer, node.score, node.notes);
    for (const auto& edge : report.circuit.edges)
      graph.edge(name(edge.from), name(edge.to), edge.score, edge.kind, edge.interval);
  }
  return joined;
}

}  // namespace plumb
