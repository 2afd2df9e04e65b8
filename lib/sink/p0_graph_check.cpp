// The pruned graph against the model, and against graphs of its size drawn at random.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "plumb/metrics.h"
#include "sink/p0_contrast.h"
#include "sink/p0_path_graph.h"

namespace plumb {

namespace {

using Edge = PathGraph::Edge;

constexpr int graphs_drawn = 20;
constexpr std::size_t size_classes = 10;  // score-matched: tenths of all paths
constexpr int path_layers = 4;            // of the wave, that a cut path is read in

double mean_of(const at::Tensor& values) { return values.mean().item<double>(); }

// `count` of the edges, all alike.
std::vector<Edge> draw(std::vector<Edge> from, std::size_t count, Random& random) {
  for (std::size_t i = 0; i < std::min(count, from.size()); ++i) {
    const auto j =
        i + static_cast<std::size_t>(random.below(static_cast<std::int64_t>(from.size() - i)));
    std::swap(from[i], from[j]);
  }
  from.resize(std::min(count, from.size()));
  return from;
}

// As many edges of each tenth of all edges by size as the graph has, others than its own where
// there are enough.
std::set<Edge> matched(const std::vector<Edge>& by_size, const std::set<Edge>& graph,
                       Random& random) {
  std::set<Edge> drawn;
  for (std::size_t c = 0; c < size_classes; ++c) {
    const auto first =
        by_size.begin() + static_cast<std::ptrdiff_t>(c * by_size.size() / size_classes);
    const auto last =
        by_size.begin() + static_cast<std::ptrdiff_t>((c + 1) * by_size.size() / size_classes);
    std::vector<Edge> others;
    std::vector<Edge> own;
    for (auto edge = first; edge != last; ++edge)
      (graph.contains(*edge) ? own : others).push_back(*edge);
    const std::size_t wanted = own.size();
    const auto chosen = draw(others, wanted, random);
    drawn.insert(chosen.begin(), chosen.end());
    const auto filled = draw(own, wanted - chosen.size(), random);
    drawn.insert(filled.begin(), filled.end());
  }
  return drawn;
}

}  // namespace

GraphCheck check_graph(P0Context& context, std::size_t w, PathGraph& graph,
                       std::vector<Contrast>& contrasts) {
  const auto edges = graph.kept();
  const std::set<Edge> own(edges.begin(), edges.end());
  std::vector<Edge> all = graph.candidates();
  GraphCheck check{.edges = static_cast<std::int64_t>(edges.size()),
                   .candidates = static_cast<std::int64_t>(all.size())};
  const at::Tensor alone = graph.alone();
  check.faithfulness = bootstrap(alone, context.options.seed);
  check.completeness = bootstrap(graph.complement(), context.options.seed);

  const double here = mean_of(alone);
  check.minimal = !edges.empty();
  check.least_needed = edges.empty() ? 0.0 : 1e300;
  for (const auto& edge : edges) {
    const double left = mean_of(graph.without(edge));
    if (std::abs(left - 1.0) <= graph_tolerance) check.minimal = false;
    if (std::abs(here - left) >= check.least_needed) continue;
    check.least_needed = std::abs(here - left);
    check.least_edge = path_name(graph, edge);
  }

  const auto sizes = graph.sizes();
  std::vector<Edge> by_size = all;
  std::ranges::stable_sort(by_size, {}, [&](const Edge& edge) { return sizes.at(edge); });
  Random random = Random(context.options.seed).fork(301 + w);
  std::vector<std::set<Edge>> cut;  // for each pair of graphs drawn: others, own; others, own
  for (int i = 0; i < graphs_drawn; ++i) {
    const auto some = draw(all, edges.size(), random);
    for (const std::set<Edge>& drawn :
         {std::set<Edge>(some.begin(), some.end()), matched(by_size, own, random)}) {
      cut.push_back(graph.others(drawn));
      cut.push_back(drawn);
    }
  }
  context.tell("comparing with random graphs", 0.0);
  const std::vector<at::Tensor> left = graph.all_but(cut);
  at::Tensor by_chance = at::zeros_like(alone);
  for (std::size_t i = 0; i < left.size(); i += 4) {
    by_chance = by_chance + left[i] / static_cast<double>(graphs_drawn);
    check.random.push_back(mean_of(left[i]));
    check.random_completeness.push_back(mean_of(left[i + 1]));
    check.matched.push_back(mean_of(left[i + 2]));
    check.matched_completeness.push_back(mean_of(left[i + 3]));
  }
  // Of fewer paths random graphs would hold most of the graph's own.
  if (!edges.empty() && 2 * edges.size() <= all.size()) {
    Contrast beside = contrast(alone, by_chance, context.options);
    beside.rung = "L6";
    beside.name = "the graph's paths alone";
    beside.control = "as many random paths";
    contrasts.push_back(std::move(beside));
  }
  return check;
}

Contrast check_link(P0Context& context, std::size_t w, PathGraph& graph, const Edge& edge) {
  Random random = Random(context.options.seed).fork(401 + w);
  const at::Tensor here = graph.alone();
  Contrast beside = contrast(here - graph.without(edge),
                             here - graph.disturbed(edge, random, graphs_drawn), context.options);
  beside.rung = "L6";
  beside.name = path_name(graph, edge) + " cut";
  beside.control = "random change of its size";
  return beside;
}

std::vector<Effect> confirm_paths(P0Context& context, std::size_t w, PathGraph& graph) {
  const Wave& wave = context.waves[w];
  const int until = std::min(wave.last + 1, wave.onset + path_layers);
  const auto edges = graph.kept();
  std::vector<Effect> effects;
  if (edges.empty()) return effects;
  const std::set<Edge> own(edges.begin(), edges.end());
  std::vector<std::set<Edge>> cut;
  for (const auto& edge : edges) cut.push_back({edge});
  cut.push_back(graph.others(own));
  cut.push_back(own);
  const std::vector<at::Tensor> states = graph.states_without(cut);
  const auto read = [&](const at::Tensor& state, const std::string& name, const std::string& kind) {
    context.tell("cutting the graph's paths",
                 static_cast<double>(effects.size()) / static_cast<double>(cut.size()));
    const std::vector<Intervention> edit{
        {.site = {Part::resid_pre, wave.onset}, .where = {.positions = {0}}, .edit = Put{state}}};
    effects.push_back(context.read(w, context.intervene(edit, until), 0, name, kind, "P0"));
  };
  for (std::size_t i = 0; i < edges.size(); ++i)
    read(states[i], path_name(graph, edges[i]), "path cut");
  read(states[edges.size()], "the graph's paths alone", "all others cut");
  read(states[edges.size() + 1], "all others alone", "the graph's paths cut");
  return effects;
}

}  // namespace plumb
