// Circuits as EAP-IG chooses, prunes and evaluates them (make_circuit_goldens.py), and what its
// goldens beside the checkout say.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/edge_circuit.h"
#include "plumb/edge_run.h"
#include "support/hash_weights.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Both sides in float64 over the same weights.
constexpr double tolerance = 1e-10;

Pairs pairs_of(const Json& clean, const Json& corrupt, const Json& answers) {
  std::vector<PairIds> list;
  for (std::size_t b = 0; b < answers.size(); ++b) {
    list.push_back({.clean = clean.at(b),
                    .corrupt = corrupt.at(b),
                    .right = answers.at(b).at(0),
                    .wrong = answers.at(b).at(1)});
  }
  return make_pairs(list);
}

std::vector<std::string> names_of(const EdgeCircuit& circuit) {
  std::vector<std::string> names;
  for (std::int64_t edge = 0; edge < circuit.space.edges(); ++edge) {
    if (circuit.in[static_cast<std::size_t>(edge)] != 0)
      names.push_back(circuit.space.edge_name(edge));
  }
  std::sort(names.begin(), names.end());
  return names;
}

void expect_values(const at::Tensor& found, const Json& expected, const std::string& what) {
  ASSERT_EQ(found.numel(), static_cast<std::int64_t>(expected.size())) << what;
  for (std::size_t b = 0; b < expected.size(); ++b) {
    EXPECT_NEAR(found[static_cast<std::int64_t>(b)].item<double>(), expected[b].get<double>(),
                tolerance)
        << what;
  }
}

TEST(CircuitGolden, AreChosenPrunedAndRunAsByEapIg) {
  const Json golden = Json::parse(std::ifstream(test::source_dir() / "tests/golden/circuits.json"));
  const Pairs pairs = pairs_of(golden.at("clean"), golden.at("corrupt"), golden.at("answers"));
  for (const auto& [kind, entry] : golden.at("models").items()) {
    const Model model = test::hash_model(kind);
    EdgeCircuit scored =
        empty_circuit(EdgeSpace(model.config().layers, model.config().heads, model.config().heads));
    ASSERT_EQ(static_cast<std::int64_t>(entry.at("scores").size()), scored.space.edges());
    for (const auto& [name, score] : entry.at("scores").items())
      scored.scores[static_cast<std::size_t>(scored.space.find_edge(name).value())] = score;
    std::vector<std::vector<std::uint8_t>> masks;
    ASSERT_GE(entry.at("circuits").size(), 9U);
    for (const Json& wanted : entry.at("circuits")) {
      SCOPED_TRACE(kind + " " + wanted.at("how").get<std::string>() + " " +
                   wanted.at("number").dump());
      const std::string how = wanted.at("how");
      const bool absolute = wanted.at("absolute");
      const EdgeCircuit chosen = how == "top" ? top_edges(scored, wanted.at("number"), absolute)
                                 : how == "greedy"
                                     ? greedy_edges(scored, wanted.at("number"), absolute)
                                     : above_threshold(scored, wanted.at("number"), absolute);
      const EdgeCircuit circuit = pruned(chosen);
      EXPECT_EQ(names_of(circuit), wanted.at("edges").get<std::vector<std::string>>());
      EXPECT_EQ(count_nodes(circuit), wanted.at("nodes").get<std::int64_t>());
      masks.push_back(circuit.in);
    }
    const std::vector<std::pair<std::string, Replacement>> outside = {
        {"patching", {}},
        {"zero", parse_replacement("zero")},
        {"mean-positional", parse_replacement("mean-batch")}};
    for (const auto& [theirs, ours] : outside) {
      const EdgeRunOptions options{.outside = ours};
      const EdgeRuns found = run_edges(model, scored.space, masks, pairs, options);
      for (std::size_t i = 0; i < masks.size(); ++i) {
        expect_values(found.each[static_cast<std::int64_t>(i)],
                      entry.at("circuits").at(i).at(theirs),
                      kind + " " + theirs + " " + std::to_string(i));
      }
    }
  }
}

class PeerCircuit : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, PeerCircuit, testing::Values("gpt2", "llama"));

TEST_P(PeerCircuit, RunsAsEapIgDoes) {
  const auto file = test::shared_dir() / "models" / "goldens" / "goldens_peers.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file.string() << " is missing";
  const Json golden = Json::parse(std::ifstream(file)).at("models").at(GetParam());
  const Pairs pairs =
      pairs_of(golden.at("tokens_clean"), golden.at("tokens_corrupt"), golden.at("answers"));
  const Model model = test::hash_model(GetParam());
  const EdgeSpace space(model.config().layers, model.config().heads, model.config().heads);
  const Json& edges = golden.at("edges");
  EdgeCircuit scored = empty_circuit(space);
  const Json& scores = edges.at("eap_ig_inputs_m5").at("scores");
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    const auto [sender, receiver] = space.ends(edge);
    EXPECT_EQ(space.sender_name(sender), edges.at("sources").at(static_cast<std::size_t>(sender)));
    EXPECT_EQ(space.receiver_name(receiver),
              edges.at("destinations").at(static_cast<std::size_t>(receiver)));
    scored.scores[static_cast<std::size_t>(edge)] =
        scores.at(static_cast<std::size_t>(sender)).at(static_cast<std::size_t>(receiver));
  }
  for (const auto& [name, wanted] : edges.at("evaluate_graph").items()) {
    const std::int64_t n = name == "empty" ? 0 : std::stoll(name.substr(name.rfind('_') + 1));
    const EdgeCircuit circuit = pruned(top_edges(scored, n, true));
    if (wanted.contains("edges_after_prune")) {
      EXPECT_EQ(names_of(circuit), wanted.at("edges_after_prune").get<std::vector<std::string>>());
    }
    expect_values(run_edges(model, space, {circuit.in}, pairs).each[0], wanted.at("ld_each"), name);
  }
  // Every edge taken out by itself: their exact scores are losses, the metric's fall.
  std::vector<std::vector<std::uint8_t>> masks;
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    EdgeCircuit rest = full_circuit(space);
    rest.in[static_cast<std::size_t>(edge)] = 0;
    masks.push_back(rest.in);
  }
  const EdgeRuns found = run_edges(model, space, masks, pairs);
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    const auto [sender, receiver] = space.ends(edge);
    const double exact = edges.at("exact")
                             .at("scores")
                             .at(static_cast<std::size_t>(sender))
                             .at(static_cast<std::size_t>(receiver));
    EXPECT_NEAR((found.clean.mean() - found.each[edge].mean()).item<double>(), exact, tolerance)
        << space.edge_name(edge);
  }
}

}  // namespace
}  // namespace plumb
