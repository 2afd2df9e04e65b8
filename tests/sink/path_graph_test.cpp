// The drawn graph of models whose circuit is known by construction: the planted paths and no
// others, a junction for a backup, erasers alone called so.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <stdexcept>

#include "plumb/p0.h"
#include "plumb/plant.h"
#include "sink/p0_path_graph.h"
#include "support/token_lists.h"

namespace plumb {
namespace {

constexpr std::int64_t sequences = 8;
constexpr std::int64_t length = 32;

P0Report locate(const Planted& planted) {
  const Model model = to_model(planted);
  P0Inputs inputs;
  inputs.plain = make_inputs(test::as_lists(plant_tokens(planted, 5, sequences, length)), length,
                             {}, "tokens");
  return locate_p0(
      model, inputs,
      {.causal_sequences = sequences, .causal_length = length, .self_mask_position = 12});
}

// A planted model surveyed, and its first wave at hand.
struct Surveyed {
  Surveyed(const Planted& planted, std::int64_t count, const LoadOptions& load = {},
           std::optional<std::int64_t> bos = {})
      : model(to_model(planted, load)),
        inputs(make_inputs(test::as_lists(plant_tokens(planted, 5, count, length)), length, bos,
                           "tokens")),
        options{.causal_sequences = count, .causal_length = length},
        survey(survey_sink(model, inputs)),
        context(model, inputs, options, survey.waves, survey, quiet) {
    if (survey.waves.empty()) throw std::runtime_error("the planted model shows no wave");
  }

  Model model;
  Inputs inputs;
  P0Options options;
  SinkSurvey survey;
  Progress quiet = {};
  P0Context context;
};

// "a0->m0": the drawn paths between components that raise the projection. Those that lower it are
// effects of the wired weights too, by the norms, but nobody wired them.
std::set<std::string> raising(const Circuit& circuit) {
  std::set<std::string> names;
  for (const auto& edge : circuit.edges) {
    const bool part = edge.from.find(".n") != std::string::npos;
    if (edge.from == "input@0" || part || edge.score < 0.0) continue;
    const std::string to =
        edge.to.starts_with("sink") ? "sink" : edge.to.substr(0, edge.to.find('@'));
    names.insert(edge.from.substr(0, edge.from.find('@')) + "->" + to);
  }
  return names;
}

std::vector<CircuitEdge> edges_into(const Circuit& circuit, const std::string& node) {
  std::vector<CircuitEdge> edges;
  std::ranges::copy_if(circuit.edges, std::back_inserter(edges),
                       [&](const CircuitEdge& edge) { return edge.to == node; });
  return edges;
}

std::vector<std::string> of_kind(const Circuit& circuit, const std::string& kind) {
  std::vector<std::string> names;
  for (const auto& node : circuit.nodes) {
    if (node.kind == kind) names.push_back(node.name);
  }
  return names;
}

std::vector<CircuitEdge> erasing(const Circuit& circuit) {
  std::vector<CircuitEdge> edges;
  std::ranges::copy_if(circuit.edges, std::back_inserter(edges),
                       [](const CircuitEdge& edge) { return edge.kind == "eraser"; });
  return edges;
}

class PathGraphOfPlanted : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, PathGraphOfPlanted, testing::Range(0, 3));

TEST_P(PathGraphOfPlanted, IsTheWiredPathsAndNoOthers) {
  const Planted planted = plant({.seed = static_cast<std::uint64_t>(GetParam())});
  const P0Report report = locate(planted);
  ASSERT_EQ(report.waves.size(), 1U);
  const WaveReport& wave = report.waves.front();
  EXPECT_EQ(raising(wave.circuit),
            std::set<std::string>(planted.circuit_edges.begin(), planted.circuit_edges.end()));
  for (const auto& edge : wave.circuit.edges) {
    if (edge.from == "input@0" || edge.from.find(".n") != std::string::npos) continue;
    ASSERT_TRUE(edge.interval) << edge.from << " -> " << edge.to;
    EXPECT_LE(edge.interval->low, edge.score);
    EXPECT_GE(edge.interval->high, edge.score);
    EXPECT_GT(edge.interval->low * edge.interval->high, 0.0) << edge.from << " -> " << edge.to;
  }
  const GraphCheck& graph = wave.graph;
  EXPECT_LT(graph.edges, graph.candidates);
  EXPECT_NEAR(graph.faithfulness.mean, 1.0, graph_tolerance);
  EXPECT_TRUE(graph.minimal) << graph.least_edge;
  EXPECT_GT(graph.least_needed, graph_tolerance);
  // No chain of as many other paths leads to the writer: what is wired cannot be gone around.
  EXPECT_LT(graph.completeness.mean, 0.2);
  ASSERT_EQ(graph.random.size(), 20U);
  ASSERT_EQ(graph.matched.size(), 20U);
  const double better = static_cast<double>(
      std::ranges::count_if(graph.random, [](double kept) { return kept > 0.5; }));
  EXPECT_LE(better, 5) << "random graphs of this size should rarely hold the circuit";
  EXPECT_TRUE(of_kind(wave.circuit, "or").empty());
  EXPECT_TRUE(erasing(wave.circuit).empty());
  EXPECT_TRUE(wave.alternatives.empty());

  // In the full model too the sink is the graph's.
  ASSERT_GE(wave.paths.size(), 2U);
  const Effect& alone = wave.paths[wave.paths.size() - 2];
  const Effect& others = wave.paths.back();
  EXPECT_LT(alone.removed, 0.1);
  EXPECT_GT(others.removed, 0.8);
}

TEST(PathGraph, DrawsABackupAsAJunction) {
  const Planted planted = plant({.seed = 1, .backup = true});
  const P0Report report = locate(planted);
  ASSERT_EQ(report.waves.size(), 1U);
  const WaveReport& wave = report.waves.front();
  ASSERT_EQ(wave.alternatives.size(), 1U);
  const std::vector<std::vector<std::string>> routes{{"m1"}, {"m2"}};
  EXPECT_EQ(wave.alternatives.front().routes, routes);

  const auto junctions = of_kind(wave.circuit, "or");
  ASSERT_EQ(junctions.size(), 1U);
  std::set<std::string> senders;
  for (const auto& edge : edges_into(wave.circuit, junctions.front())) {
    EXPECT_EQ(edge.kind, "or");
    EXPECT_LT(edge.score, 0.5) << edge.from << " alone would be necessary";
    senders.insert(edge.from);
  }
  EXPECT_EQ(senders, (std::set<std::string>{"m1@0", "m2@0"}));
  const std::string sink = of_kind(wave.circuit, "sink").front();
  const auto last = edges_into(wave.circuit, sink);
  ASSERT_EQ(last.size(), 1U) << "only the junction leads to the sink";
  EXPECT_EQ(last.front().from, junctions.front());
  EXPECT_GT(last.front().score, 0.8);
  // The idle backup reads the flag as the writer does.
  const auto feeds = edges_into(wave.circuit, "m2@0");
  EXPECT_TRUE(std::ranges::any_of(
      feeds, [](const CircuitEdge& edge) { return edge.from == "m0@0" && edge.score > 0.5; }));
  EXPECT_NO_THROW(check(report.circuit));
}

TEST(PathGraph, CallsTheEraserAloneAnEraser) {
  const Planted planted = plant({.seed = 2, .layers = 8, .second = 4, .erase = true});
  const P0Report report = locate(planted);
  ASSERT_EQ(report.waves.size(), 2U);
  ASSERT_EQ(planted.erasers.size(), 1U);
  // The second wave reads the first: nothing else would write it.
  EXPECT_TRUE(report.waves.back().alternatives.empty());
  EXPECT_TRUE(of_kind(report.waves.back().circuit, "or").empty());
  const auto found = erasing(report.waves.front().circuit);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front().from, planted.erasers.front());
  EXPECT_LT(found.front().score, -0.1);
}

// Of all paths inside position 0, none cut, those are left that carry something for any token.
TEST(PathGraph, LeavesOutWhatOtherTokensDoNotConfirm) {
  const Planted planted = plant({.seed = 3, .write = 2});
  std::vector<std::set<std::string>> left;
  for (const int threads : {1, 2}) {
    Surveyed found(planted, sequences, {.threads = threads});
    PathGraph graph(found.context, 0);
    const std::size_t all = graph.kept().size();
    ASSERT_EQ(all, graph.candidates().size());
    const auto doubtful = drop_unconfirmed(found.context, 0, graph);
    const auto kept = graph.kept();
    EXPECT_LE(kept.size() + doubtful.size(), all);
    std::set<std::string> names;
    std::set<std::string> raising;
    const at::Tensor here = graph.alone();
    for (const auto& edge : kept) {
      const Estimate lost = bootstrap(here - graph.without(edge), found.options.seed);
      EXPECT_GT(lost.low * lost.high, 0.0) << path_name(graph, edge);
      names.insert(path_name(graph, edge));
      if (lost.mean > 0.0) raising.insert(path_name(graph, edge));
    }
    EXPECT_EQ(raising,
              std::set<std::string>(planted.circuit_edges.begin(), planted.circuit_edges.end()));
    for (const auto& path : doubtful) {
      EXPECT_FALSE(names.contains(path.name)) << path.name;
      EXPECT_LT(std::abs(path.elsewhere.mean), graph_tolerance) << path.name;
    }
    left.push_back(names);
  }
  EXPECT_EQ(left.front(), left.back());
}

// Where BOS stands first in every sequence no other token can confirm anything.
TEST(PathGraph, ConfirmsByTheSequencesAloneWhereBosStandsFirst) {
  const Planted planted = plant({.seed = 3, .bos_too = true});
  Surveyed found(planted, sequences, {}, planted.bos);
  PathGraph graph(found.context, 0);
  for (const auto& path : drop_unconfirmed(found.context, 0, graph))
    EXPECT_LT(std::abs(path.score.mean), graph_tolerance) << path.name;
  EXPECT_FALSE(graph.kept().empty());
}

TEST(PathGraph, GivesTheSameFromAnEarlierEvaluationAsAfresh) {
  const Planted planted = plant({.seed = 4, .write = 2});
  Surveyed found(planted, 6, {.dtype = at::kDouble});
  PathGraph graph(found.context, 0);
  graph.prune([](double) {});
  const auto kept = graph.kept();
  ASSERT_GE(kept.size(), 3U);
  const std::set<PathGraph::Edge> all(kept.begin(), kept.end());
  EXPECT_TRUE(at::equal(graph.alone(), graph.only(all)));
  for (const auto& edge : kept) {
    std::set<PathGraph::Edge> fewer = all;
    fewer.erase(edge);
    EXPECT_TRUE(at::equal(graph.without(edge), graph.only(fewer))) << path_name(graph, edge);
  }
  const auto candidates = graph.candidates();
  EXPECT_TRUE(graph.only({}).abs().max().item<double>() < 1e-12);
  EXPECT_NEAR(graph.only({candidates.begin(), candidates.end()}).mean().item<double>(), 1.0, 1e-12);
}

// Whether the BLAS here gives a row of a float32 product the same bits however many rows there are,
// as long as they fill its kernels. None promises it.
bool rows_stand_alone(std::int64_t width) {
  constexpr std::int64_t rows_of_kernels = 12;
  const at::Tensor rows = at::randn({384, width}, at::kFloat);
  const at::Tensor weights = at::randn({width, width}, at::kFloat);
  const at::Tensor whole = rows.mm(weights.t());
  for (std::int64_t count = rows_of_kernels; count < rows.size(0); count += rows_of_kernels) {
    if (!at::equal(rows.narrow(0, 0, count).mm(weights.t()), whole.narrow(0, 0, count)))
      return false;
  }
  return true;
}

TEST(PathGraph, SeveralEvaluationsTogetherHaveTheBitsOfEachAlone) {
  const Planted planted = plant({.seed = 4, .write = 2});
  constexpr std::int64_t few = 7;  // fills no kernel
  Surveyed found(planted, few, {.threads = 2});
  PathGraph graph(found.context, 0);
  std::vector<std::set<PathGraph::Edge>> sets;
  for (const auto& edge : graph.candidates()) sets.push_back({edge});
  const auto together = graph.all_but(sets);
  ASSERT_EQ(together.size(), sets.size());
  // A BLAS that rounds a row by how many stand beside it leaves float32's rounding.
  const double allowed = rows_stand_alone(planted.config.d_model) ? 0.0 : 1e-4;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    EXPECT_LE((graph.all_but(sets[i]) - together[i]).abs().max().item<double>(), allowed)
        << path_name(graph, *sets[i].begin());
  }
}

}  // namespace
}  // namespace plumb
