// Edge circuits: pruning, selection, sets, baselines.
#include "plumb/edge_circuit.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "plumb/error.h"

namespace plumb {
namespace {

EdgeCircuit random_scores(const EdgeSpace& space, unsigned seed) {
  EdgeCircuit made = empty_circuit(space);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (double& score : made.scores) score = normal(random);
  return made;
}

void put(EdgeCircuit& circuit, const std::string& name) {
  circuit.in.at(static_cast<std::size_t>(circuit.space.find_edge(name).value())) = 1;
}

std::set<std::string> names(const EdgeCircuit& circuit) {
  std::set<std::string> found;
  for (std::int64_t edge = 0; edge < circuit.space.edges(); ++edge) {
    if (circuit.in[static_cast<std::size_t>(edge)] != 0)
      found.insert(circuit.space.edge_name(edge));
  }
  return found;
}

// By the definition: components without an edge in or out go, with their edges, until none is left.
EdgeCircuit pruned_by_rounds(EdgeCircuit circuit) {
  const EdgeSpace& space = circuit.space;
  const int group = space.heads() / space.kv_heads();
  const auto feeds = [&](std::int64_t receiver, std::int64_t sender) {
    const EdgeReceiver reader = space.receiver(receiver);
    const EdgeSender writer = space.sender(sender);
    if (reader.kind == EdgeReceiver::Kind::logits || reader.layer != writer.layer) return false;
    if (reader.kind == EdgeReceiver::Kind::mlp) return writer.kind == EdgeSender::Kind::mlp;
    if (writer.kind != EdgeSender::Kind::head) return false;
    return reader.kind == EdgeReceiver::Kind::q ? reader.head == writer.head
                                                : reader.head == writer.head / group;
  };
  for (bool changed = true; changed;) {
    changed = false;
    std::vector<bool> kept(static_cast<std::size_t>(space.senders()));
    for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
      bool enters = sender == 0;
      bool leaves = false;
      for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
        if (circuit.in[static_cast<std::size_t>(edge)] == 0) continue;
        enters = enters || feeds(space.ends(edge).receiver, sender);
        leaves = leaves || space.ends(edge).sender == sender;
      }
      kept[static_cast<std::size_t>(sender)] = enters && leaves;
    }
    for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
      std::uint8_t& in = circuit.in[static_cast<std::size_t>(edge)];
      if (in == 0) continue;
      const auto [sender, receiver] = space.ends(edge);
      bool read = receiver == space.receivers() - 1;
      for (std::int64_t node = 0; node < space.senders(); ++node)
        read = read || (kept[static_cast<std::size_t>(node)] && feeds(receiver, node));
      if (read && kept[static_cast<std::size_t>(sender)]) continue;
      in = 0;
      changed = true;
    }
  }
  return circuit;
}

TEST(EdgeCircuit, LosesWhatLiesOnNoWay) {
  EdgeCircuit circuit = empty_circuit(EdgeSpace(3, 2, 2));
  put(circuit, "input->a0.h0<v>");
  put(circuit, "a0.h0->m1");
  put(circuit, "m1->logits");
  const auto whole = names(circuit);
  put(circuit, "m0->a1.h0<q>");     // comes from nowhere
  put(circuit, "a1.h0->a2.h1<k>");  // and leads nowhere
  put(circuit, "input->m2");
  EXPECT_EQ(names(pruned(circuit)), whole);
  EXPECT_EQ(count_edges(pruned(circuit)), 3);
  EXPECT_EQ(count_nodes(pruned(circuit)), 3);
  EXPECT_EQ(count_edges(pruned(full_circuit(circuit.space))), circuit.space.edges());
  EXPECT_EQ(count_nodes(full_circuit(circuit.space)), circuit.space.senders());
}

TEST(EdgeCircuit, IsPrunedAsByRounds) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    const EdgeSpace space(3, 4, seed % 2 == 0 ? 4 : 2, seed % 3 == 0);
    EdgeCircuit circuit = empty_circuit(space);
    std::mt19937 random(seed);
    for (std::uint8_t& in : circuit.in) in = random() % 100 < 8 ? 1 : 0;
    const EdgeCircuit once = pruned(circuit);
    EXPECT_EQ(names(once), names(pruned_by_rounds(circuit))) << seed;
    EXPECT_EQ(pruned(once).in, once.in);
  }
}

TEST(EdgeCircuit, RefusesWhatIsNone) {
  EdgeCircuit circuit = empty_circuit(EdgeSpace(2, 2, 1));
  EXPECT_NO_THROW(check(circuit));
  const auto refused = [&](auto change) {
    EdgeCircuit broken = circuit;
    change(broken);
    EXPECT_THROW(check(broken), Error);
  };
  refused([](EdgeCircuit& c) { c.in.pop_back(); });
  refused([](EdgeCircuit& c) { c.scores.push_back(0); });
  refused([](EdgeCircuit& c) { c.in[1] = 2; });
  refused([](EdgeCircuit& c) { c.scores[0] = std::nan(""); });
  refused([](EdgeCircuit& c) { c.scores[0] = std::numeric_limits<double>::infinity(); });
  EXPECT_THROW((void)top_edges(circuit, circuit.space.edges() + 1, true), Error);
  EXPECT_THROW((void)top_edges(circuit, -1, true), Error);
  EXPECT_THROW((void)above_threshold(circuit, std::nan(""), true), Error);
  EXPECT_THROW((void)compare(circuit, empty_circuit(EdgeSpace(2, 2, 2))), Error);
  EXPECT_THROW((void)scored_circuit({.space = circuit.space, .values = at::zeros({3})}), Error);
}

TEST(EdgeCircuit, KeepsScoresAndSumsPositions) {
  const EdgeSpace space(2, 2, 1);
  const at::Tensor values = at::randn({3, space.edges()}, at::kDouble);
  const EdgeCircuit circuit = scored_circuit({.space = space, .values = values, .method = "eap"});
  EXPECT_LT((scores_of(circuit).values - values.sum(0)).abs().max().item<double>(), 1e-14);
  EXPECT_EQ(count_edges(circuit), 0);
  EXPECT_EQ(circuit.title, "eap");
}

TEST(EdgeSelection, TakesTheLargest) {
  const EdgeCircuit scored = random_scores(EdgeSpace(3, 4, 2), 1);
  for (const bool absolute : {false, true}) {
    const EdgeCircuit top = top_edges(scored, 20, absolute);
    EXPECT_EQ(count_edges(top), 20);
    double least = 1e9;
    double most = -1e9;
    for (std::size_t edge = 0; edge < top.in.size(); ++edge) {
      const double key = absolute ? std::abs(top.scores[edge]) : top.scores[edge];
      if (top.in[edge] != 0) least = std::min(least, key);
      if (top.in[edge] == 0) most = std::max(most, key);
    }
    EXPECT_GT(least, most);
    EXPECT_EQ(above_threshold(scored, least, absolute).in, top.in);
  }
  // Equal scores: by sender, then by receiver.
  EdgeCircuit flat = empty_circuit(EdgeSpace(2, 2, 2));
  EXPECT_EQ(names(top_edges(flat, 3, true)),
            (std::set<std::string>{"input->a0.h0<q>", "input->a0.h1<q>", "input->a0.h0<k>"}));
}

// What the greedy choice is, step by step over all edges.
EdgeCircuit greedy_by_steps(EdgeCircuit circuit, int n, bool absolute) {
  const EdgeSpace& space = circuit.space;
  std::fill(circuit.in.begin(), circuit.in.end(), std::uint8_t{0});
  std::set<std::string> reached = {"logits"};
  const int group = space.heads() / space.kv_heads();
  for (int step = 0; step < n; ++step) {
    std::int64_t best = -1;
    for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
      if (circuit.in[static_cast<std::size_t>(edge)] != 0) continue;
      const EdgeReceiver reader = space.receiver(space.ends(edge).receiver);
      const std::string layer = std::to_string(reader.layer);
      bool open = false;
      if (reader.kind == EdgeReceiver::Kind::logits) open = true;
      if (reader.kind == EdgeReceiver::Kind::mlp) open = reached.contains("m" + layer);
      for (int head = 0; head < space.heads(); ++head) {
        const bool fed = reader.kind == EdgeReceiver::Kind::q ? head == reader.head
                                                              : head / group == reader.head;
        if (reader.kind != EdgeReceiver::Kind::logits && reader.kind != EdgeReceiver::Kind::mlp &&
            fed)
          open = open || reached.contains("a" + layer + ".h" + std::to_string(head));
      }
      const auto key = [&](std::int64_t e) {
        const double score = circuit.scores[static_cast<std::size_t>(e)];
        return absolute ? std::abs(score) : score;
      };
      if (open && (best < 0 || key(edge) > key(best))) best = edge;
    }
    if (best < 0) break;
    circuit.in[static_cast<std::size_t>(best)] = 1;
    reached.insert(space.sender_name(space.ends(best).sender));
  }
  return circuit;
}

TEST(EdgeSelection, IsGreedyFromTheLogits) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    const EdgeCircuit scored = random_scores(EdgeSpace(3, 4, seed % 2 == 0 ? 4 : 2), seed);
    for (const bool absolute : {false, true}) {
      for (const int n : {1, 7, 40}) {
        EXPECT_EQ(names(greedy_edges(scored, n, absolute)),
                  names(greedy_by_steps(scored, n, absolute)));
      }
    }
    EXPECT_EQ(count_edges(greedy_edges(scored, scored.space.edges(), true)), scored.space.edges());
  }
}

TEST(EdgeSets, AreUnitedSharedAndCompared) {
  const EdgeCircuit scored = random_scores(EdgeSpace(3, 4, 2), 1);
  const EdgeCircuit a = top_edges(scored, 30, true);
  const EdgeCircuit b = top_edges(scored, 20, false);
  const Overlap overlap = compare(a, b);
  EXPECT_EQ(overlap.a, 30);
  EXPECT_EQ(overlap.b, 20);
  EXPECT_EQ(overlap.both, count_edges(shared(a, b)));
  EXPECT_EQ(count_edges(united(a, b)), 50 - overlap.both);
  EXPECT_EQ(count_edges(without(a, b)), 30 - overlap.both);
  EXPECT_DOUBLE_EQ(overlap.jaccard,
                   static_cast<double>(overlap.both) / static_cast<double>(50 - overlap.both));
  EXPECT_NEAR(overlap.pearson, 1.0, 1e-12);
  EXPECT_NEAR(overlap.spearman, 1.0, 1e-12);
  EdgeCircuit reversed = a;
  for (double& score : reversed.scores) score = -std::exp(score);
  EXPECT_NEAR(compare(a, reversed).spearman, -1.0, 1e-12);
  EXPECT_GT(compare(a, reversed).pearson, -0.99);
  EXPECT_EQ(compare(empty_circuit(a.space), empty_circuit(a.space)).jaccard, 1.0);
  EXPECT_TRUE(std::isnan(compare(empty_circuit(a.space), a).pearson));
  EXPECT_EQ(count_edges(complement(a)), a.space.edges() - 30);
}

TEST(EdgeBaselines, MatchTheCircuit) {
  const EdgeSpace space(4, 4, 4);
  const EdgeCircuit circuit = top_edges(random_scores(space, 3), 40, true);
  const EdgeCircuit random = random_edges(circuit, 7);
  EXPECT_EQ(count_edges(random), 40);
  EXPECT_EQ(random.in, random_edges(circuit, 7).in);
  EXPECT_NE(random.in, random_edges(circuit, 8).in);
  EXPECT_EQ(random.scores, circuit.scores);
  const auto by_layers = [&](const EdgeCircuit& each) {
    std::map<std::pair<int, int>, int> counts;
    for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
      const auto [sender, receiver] = space.ends(edge);
      if (each.in[static_cast<std::size_t>(edge)] != 0)
        ++counts[{space.sender(sender).layer, space.receiver(receiver).layer}];
    }
    return counts;
  };
  const EdgeCircuit layered = matched_edges(circuit, Matching::layers, 1);
  EXPECT_EQ(by_layers(layered), by_layers(circuit));
  EXPECT_LT(compare(layered, circuit).jaccard, 0.2);
  // The tenth of the largest scores has 48 edges: the 40 leave 8 others, and 32 must come again.
  const EdgeCircuit alike = matched_edges(circuit, Matching::scores, 1);
  EXPECT_EQ(count_edges(alike), 40);
  const std::int64_t tenth = (space.edges() + 9) / 10;
  EXPECT_EQ(count_edges(shared(alike, top_edges(circuit, tenth, true))), 40);
  EXPECT_EQ(count_edges(shared(alike, circuit)), std::max<std::int64_t>(0, 80 - tenth));
}

TEST(EdgeCircuit, IsNamedForDrawing) {
  EdgeCircuit circuit = empty_circuit(EdgeSpace(2, 4, 2));
  for (const char* name : {"input->a0.h1<q>", "input->a0.h0<v>", "a0.h1->m1", "m1->logits"})
    put(circuit, name);
  circuit.scores[static_cast<std::size_t>(circuit.space.find_edge("a0.h1->m1").value())] = -2.5;
  const Circuit named = plumb::named(circuit);
  EXPECT_NO_THROW(check(named));
  // Head 0 shares the key head, but nothing leaves it.
  ASSERT_EQ(named.nodes.size(), 4U);
  EXPECT_EQ(named.nodes[1].name, "a0.h1");
  EXPECT_EQ(named.nodes[1].score, -2.5);
  ASSERT_EQ(named.edges.size(), 4U);
  EXPECT_EQ(named.edges[0].kind, "q");
  EXPECT_EQ(named.edges[1].kind, "v");
  EXPECT_EQ(named.edges[1].to, "a0.h1");
  EXPECT_EQ(named.edges[3].to, "logits");
}

// Llama-3-8B with a key head for every head.
TEST(EdgeCircuit, HasRoomForAMillionEdges) {
  const EdgeSpace space(32, 32, 32);
  ASSERT_EQ(space.edges(), 1'592'881);
  const EdgeCircuit scored = random_scores(space, 1);
  const EdgeCircuit top = pruned(top_edges(scored, 20'000, true));
  EXPECT_GT(count_edges(top), 5'000);  // early heads that nothing reaches have gone
  const EdgeCircuit greedy = greedy_edges(scored, 20'000, true);
  EXPECT_EQ(count_edges(greedy), 20'000);
  EXPECT_GT(compare(top, greedy).jaccard, 0.3);
  EXPECT_EQ(count_edges(matched_edges(top, Matching::layers, 1)), count_edges(top));
}

}  // namespace
}  // namespace plumb
