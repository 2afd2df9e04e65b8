// The pruned graph and what the ladder cost, in words.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "report/p0_tables.h"
#include "report/text_pieces.h"

namespace plumb::report {
namespace {

std::string range_of(const std::vector<double>& values) {
  if (values.empty()) return "none";
  const double mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  const auto [low, high] = std::ranges::minmax(values);
  return fmt::format("{:.3f} ({:.3f} to {:.3f})", mean, low, high);
}

}  // namespace

std::vector<std::string> graph_sentences(const WaveReport& wave) {
  const GraphCheck& graph = wave.graph;
  std::vector<std::string> said{
      fmt::format("The graph: {} of {} paths inside position 0 keep {} of what all paths carry of "
                  "the projection (1: as the model; 0: every path carries its sender's mean over "
                  "t > 0); all others alone keep {}. {} {} ({:.3f}).",
                  graph.edges, graph.candidates, show_estimate(graph.faithfulness),
                  show_estimate(graph.completeness),
                  graph.minimal
                      ? "No single path of it can be spared within 5 %; the least needed is"
                      : "The least needed of them is",
                  graph.least_edge, graph.least_needed),
      fmt::format(
          "{} graphs of as many paths drawn at random keep {} on average (range), and without "
          "their paths {} are left; {} of as many other paths of like score keep {}, and without "
          "them {} are left.",
          graph.random.size(), range_of(graph.random), range_of(graph.random_completeness),
          graph.matched.size(), range_of(graph.matched), range_of(graph.matched_completeness))};
  if (!graph.doubtful.empty()) {
    std::vector<std::string> paths;
    for (const DoubtfulPath& path : graph.doubtful) {
      paths.push_back(fmt::format("{} ({:.3f}, there {})", path.name, path.score.mean,
                                  show_estimate(path.elsewhere)));
    }
    said.push_back(fmt::format(
        "The search kept more; left out are paths whose effect other tokens put first do not "
        "confirm: {}.",
        fmt::join(paths, "; ")));
  }
  for (const Alternatives& set : wave.alternatives) {
    std::vector<std::string> routes;
    for (const auto& route : set.routes) routes.push_back(fmt::format("{}", fmt::join(route, "+")));
    said.push_back(fmt::format("Any one suffices: {}.", fmt::join(routes, " or ")));
  }
  return said;
}

std::vector<std::string> neuron_sentences(const Circuit& circuit) {
  std::vector<std::string> said;
  for (const CircuitNode& node : circuit.nodes) {
    const auto few = node.notes.find("neurons");
    if (few == node.notes.end()) continue;
    said.push_back(fmt::format("Few neurons carry {}: {} of what it writes along the direction.",
                               node.name.substr(0, node.name.find('@')), few->second));
  }
  return said;
}

std::string graph_words(const WaveReport& wave) {
  std::string text;
  for (const auto& sentence : graph_sentences(wave)) text += wrap(sentence);
  for (const auto& sentence : neuron_sentences(wave.circuit)) text += wrap(sentence);
  return text;
}

std::string cost_table(const std::vector<P0Cost>& costs) {
  if (costs.empty()) return "";
  std::vector<const P0Cost*> sorted;
  for (const P0Cost& cost : costs) sorted.push_back(&cost);
  std::ranges::stable_sort(sorted, {}, [](const P0Cost* cost) { return cost->rung; });
  std::vector<std::vector<std::string>> rows;
  for (const P0Cost* cost : sorted) {
    rows.push_back({cost->rung.empty() ? "-" : cost->rung, cost->step,
                    cost->wave == 0 ? "all" : std::to_string(cost->wave),
                    show_count(cost->evaluations), fmt::format("{:.1f}", cost->seconds),
                    fmt::format("{:.1f}", cost->cpu_seconds)});
  }
  return columns({"<rung", "<step", "<wave", "evaluations", "seconds", "CPU seconds"}, rows);
}

}  // namespace plumb::report
