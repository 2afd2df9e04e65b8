// Bottlenecks, cuts, strongest paths and the search.
#include "plumb/edge_paths.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "plumb/error.h"

namespace plumb {
namespace {

using Names = std::vector<std::string>;

EdgeCircuit circuit_of(const EdgeSpace& space, const Names& edges) {
  EdgeCircuit made = empty_circuit(space);
  for (const std::string& name : edges) {
    const auto edge = static_cast<std::size_t>(space.find_edge(name).value());
    made.in[edge] = 1;
    made.scores[edge] = 1.0;
  }
  return made;
}

EdgeCircuit random_circuit(const EdgeSpace& space, unsigned seed, unsigned in_hundred) {
  EdgeCircuit made = empty_circuit(space);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (std::size_t edge = 0; edge < made.in.size(); ++edge) {
    made.in[edge] = random() % 100 < in_hundred ? 1 : 0;
    made.scores[edge] = normal(random);
  }
  const auto straight = space.find_edge("input->logits").value();
  made.in[static_cast<std::size_t>(straight)] = 0;
  return made;
}

// The circuit without what enters or leaves the components.
bool arrives_without(EdgeCircuit circuit, const Names& components) {
  for (std::int64_t edge = 0; edge < circuit.space.edges(); ++edge) {
    const std::string from = circuit.space.sender_name(circuit.space.ends(edge).sender);
    if (std::ranges::count(components, from) > 0) circuit.in[static_cast<std::size_t>(edge)] = 0;
  }
  return count_edges(pruned(circuit)) > 0;
}

TEST(EdgePaths, FindWhatEveryPathPasses) {
  const EdgeSpace space(3, 2, 2);
  EdgeCircuit circuit = circuit_of(
      space, {"input->a0.h0<v>", "input->a0.h1<v>", "a0.h0->m1", "a0.h1->m1", "m1->logits"});
  EXPECT_EQ(bottlenecks(circuit), Names{"m1"});
  EXPECT_EQ(smallest_cut(circuit).value(), Names{"m1"});
  circuit = united(circuit, circuit_of(space, {"a0.h1->a2.h0<q>", "a2.h0->logits"}));
  EXPECT_EQ(bottlenecks(circuit), Names{});
  EXPECT_EQ(smallest_cut(circuit).value(), (Names{"a0.h0", "a0.h1"}));
  circuit = united(circuit, circuit_of(space, {"input->logits"}));
  EXPECT_FALSE(smallest_cut(circuit).has_value());
  EXPECT_EQ(bottlenecks(circuit), Names{});
  EXPECT_EQ(smallest_cut(empty_circuit(space)).value(), Names{});
  EXPECT_EQ(bottlenecks(empty_circuit(space)), Names{});
}

TEST(EdgePaths, CutAsByTryingAll) {
  int cuts_of_two = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    const EdgeSpace space(3, 2, seed % 2 == 0 ? 2 : 1);
    const EdgeCircuit circuit = random_circuit(space, seed, 18);
    Names components;
    for (std::int64_t sender = 1; sender < space.senders(); ++sender)
      components.push_back(space.sender_name(sender));
    const Names cut = smallest_cut(circuit).value();
    EXPECT_FALSE(arrives_without(circuit, cut)) << seed;
    Names necessary;
    for (const std::string& name : components) {
      if (arrives_without(circuit, {}) && !arrives_without(circuit, {name}))
        necessary.push_back(name);
    }
    EXPECT_EQ(bottlenecks(circuit), necessary) << seed;
    // No smaller set cuts: all pairs tried where three are said to be needed.
    if (!cut.empty()) {
      EXPECT_EQ(necessary.empty(), cut.size() >= 2) << seed;
    }
    cuts_of_two += cut.size() == 2 ? 1 : 0;
    if (cut.size() < 3) continue;
    for (std::size_t i = 0; i < components.size(); ++i) {
      for (std::size_t j = i + 1; j < components.size(); ++j)
        EXPECT_TRUE(arrives_without(circuit, {components[i], components[j]})) << seed;
    }
  }
  EXPECT_GT(cuts_of_two, 3);
}

// All paths by walking them.
std::vector<EdgePath> all_paths(const EdgeCircuit& circuit) {
  const EdgeCircuit whole = pruned(circuit);
  const EdgeSpace& space = whole.space;
  const int group = space.heads() / space.kv_heads();
  const auto enters = [&](std::int64_t edge, std::int64_t node) {
    const EdgeReceiver reader = space.receiver(space.ends(edge).receiver);
    if (node == space.senders()) return reader.kind == EdgeReceiver::Kind::logits;
    const EdgeSender writer = space.sender(node);
    if (reader.kind == EdgeReceiver::Kind::logits || reader.layer != writer.layer) return false;
    if (reader.kind == EdgeReceiver::Kind::mlp) return writer.kind == EdgeSender::Kind::mlp;
    if (writer.kind != EdgeSender::Kind::head) return false;
    return (reader.kind == EdgeReceiver::Kind::q ? writer.head : writer.head / group) ==
           reader.head;
  };
  std::vector<EdgePath> found;
  std::vector<std::int64_t> taken;
  const std::function<void(std::int64_t, double)> walk = [&](std::int64_t node, double share) {
    if (node == 0) {
      found.push_back({{taken.rbegin(), taken.rend()}, share});
      return;
    }
    double sum = 0.0;
    std::vector<std::int64_t> edges;
    for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
      if (whole.in[static_cast<std::size_t>(edge)] == 0 || !enters(edge, node)) continue;
      edges.push_back(edge);
      sum += std::abs(whole.scores[static_cast<std::size_t>(edge)]);
    }
    for (const std::int64_t edge : edges) {
      taken.push_back(edge);
      walk(space.ends(edge).sender,
           share * std::abs(whole.scores[static_cast<std::size_t>(edge)]) / sum);
      taken.pop_back();
    }
  };
  walk(space.senders(), 1.0);
  std::ranges::sort(found, std::greater(), &EdgePath::share);
  return found;
}

TEST(EdgePaths, AreTheStrongestOfAll) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const EdgeSpace space(2, 2, seed % 2 == 0 ? 2 : 1);
    const EdgeCircuit circuit = random_circuit(space, seed, 60);
    const auto all = all_paths(circuit);
    ASSERT_GT(all.size(), 10U);
    EXPECT_EQ(count_paths(circuit), static_cast<double>(all.size()));
    const auto found = strongest_paths(circuit, 10'000);
    ASSERT_EQ(found.size(), std::min<std::size_t>(all.size(), 10'000));
    double sum = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i].share, all[i].share, 1e-12);
      sum += found[i].share;
      EXPECT_EQ(space.ends(found[i].edges.front()).sender, 0);
      EXPECT_EQ(space.ends(found[i].edges.back()).receiver, space.receivers() - 1);
    }
    if (all.size() <= 10'000) {
      EXPECT_NEAR(sum, 1.0, 1e-10);
    }
    EXPECT_EQ(strongest_paths(circuit, 3).at(2).edges, found.at(2).edges);
    EXPECT_EQ(found.front().edges, all.front().edges);
  }
}

TEST(EdgePaths, SayTheirNamesAndSigns) {
  const EdgeSpace space(2, 4, 2);
  EdgeCircuit circuit =
      circuit_of(space, {"input->a0.h1<k>", "a0.h3->m1", "m1->logits", "input->m0", "m0->logits"});
  circuit.scores[static_cast<std::size_t>(space.find_edge("a0.h3->m1").value())] = -0.5;
  const auto paths = strongest_paths(circuit, 5);
  ASSERT_EQ(paths.size(), 2U);
  const EdgePath& path = paths[0].edges.size() == 3 ? paths[0] : paths[1];
  EXPECT_EQ(path_name(space, path), "input -> a0.h3<k> -> m1 -> logits");
  EXPECT_EQ(path.sign, -1);
  EXPECT_EQ(path.weakest, -0.5);
  EXPECT_DOUBLE_EQ(path.share, 0.5);
  for (double& score : circuit.scores) score = 0.0;
  EXPECT_THROW((void)strongest_paths(circuit, 5), Error);
  EXPECT_THROW((void)strongest_paths(circuit, 0), Error);
}

TEST(EdgeSearch, KeepsWhatTheLossNeeds) {
  const EdgeSpace space(2, 2, 2);
  const Names wanted = {"input->a0.h0<v>", "a0.h0->m1", "m1->logits", "input->m0", "m0->m1"};
  const EdgeCircuit needed = circuit_of(space, wanted);
  int calls = 0;
  const auto loss = [&](const EdgeCircuit& circuit) {
    ++calls;
    // Each needed edge is worth 1; every other one costs a little.
    return static_cast<double>(count_edges(without(needed, circuit))) +
           1e-3 * static_cast<double>(count_edges(circuit));
  };
  const EdgeCircuit found = search_edges(full_circuit(space), loss, {.threshold = 0.1});
  EXPECT_EQ(found.in, needed.in);
  EXPECT_LE(calls, space.edges() + 1);
  const EdgeCircuit kept = search_edges(
      full_circuit(space), loss, {.threshold = 0.1, .among = [](std::int64_t) { return false; }});
  EXPECT_EQ(count_edges(kept), space.edges());
}

}  // namespace
}  // namespace plumb
