#include "plumb/circuit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "circuit/sample.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Names = std::vector<std::string>;

Names names_of(const Circuit& circuit) {
  Names names;
  for (const CircuitNode& node : circuit.nodes) names.push_back(node.name);
  return names;
}

void expect_refused(const std::function<void(Circuit&)>& change, const std::string& reason) {
  Circuit circuit = test::sample_circuit();
  change(circuit);
  try {
    check(circuit);
    ADD_FAILURE() << "accepted: " << reason;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_argument);
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST(Circuit, AcceptsErasersAfterTheSinkAndPartsBeforeTheirWhole) {
  EXPECT_NO_THROW(check(test::sample_circuit()));
  EXPECT_NO_THROW(check(Circuit{}));
}

TEST(Circuit, RefusesWhatIsNoCircuit) {
  expect_refused([](Circuit& c) { c.nodes.push_back(c.nodes[1]); }, "two nodes are named 'a0@0'");
  expect_refused([](Circuit& c) { c.edges.push_back(c.edges[1]); }, "occurs twice");
  expect_refused([](Circuit& c) { c.edges[0].to = "a7@0"; }, "'a7@0', which is no node");
  expect_refused([](Circuit& c) { c.nodes[1].kind = "brain"; }, "unknown kind 'brain'");
  expect_refused([](Circuit& c) { c.edges[0].kind = "maybe"; }, "unknown kind 'maybe'");
  expect_refused([](Circuit& c) { c.nodes[0].layer = 0; }, "cannot be in layer 0");
  expect_refused([](Circuit& c) { c.nodes[1].layer = -1; }, "cannot be in layer -1");
  expect_refused([](Circuit& c) { c.nodes[1].name.clear(); }, "no name");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_refused([&](Circuit& c) { c.nodes[1].score = nan; }, "not finite");
  expect_refused([&](Circuit& c) { c.edges[1].score = 1 / 0.0; }, "not finite");
  expect_refused([&](Circuit& c) { c.edges[1].interval = ScoreInterval{nan, 1.0}; }, "interval");
  expect_refused([&](Circuit& c) { c.edges[1].interval = ScoreInterval{0.2, 0.1}; }, "interval");
}

TEST(Circuit, RefusesEdgesAgainstTheForwardPass) {
  const std::string reason = "against the order";
  expect_refused([](Circuit& c) { c.edges.push_back({"m1@0", "m0@0", 1}); }, reason);
  expect_refused([](Circuit& c) { c.edges.push_back({"m0@0", "a0@0", 1}); }, reason);
  expect_refused([](Circuit& c) { c.edges.push_back({"m0@0", "m0@0", 1}); }, reason);
  expect_refused([](Circuit& c) { c.edges.push_back({"m0@0", "input@0", 1}); }, reason);
  expect_refused(
      [](Circuit& c) {
        c.edges.push_back({"sink[3-9]", "m9@0", 1});
      },
      "leaves a read-out");
  // Layer 9 is the last to read the sink: block 8 still feeds it, block 9 cannot.
  expect_refused([](Circuit& c) { c.edges.push_back({"m9@0", "sink[3-9]", 1}); }, reason);
  Circuit circuit = test::sample_circuit();
  circuit.edges.push_back({"m8@0", "sink[3-9]", 1});
  EXPECT_NO_THROW(check(circuit));
  circuit.nodes[6].name = "sink[l=3,h=1]";
  for (CircuitEdge& edge : circuit.edges) {
    if (edge.to == "sink[3-9]") edge.to = "sink[l=3,h=1]";
  }
  EXPECT_THROW(check(circuit), Error);
}

// m1 and m2 back each other up: a junction stands between them and the sink.
Circuit with_a_junction() {
  Circuit circuit{.title = "alternatives", .convention = "share lost"};
  circuit.nodes = {{"input@0", "input", -1, 0.0},
                   {"m0@0", "mlp", 0, 0.1},
                   {"m1@0", "mlp", 1, 0.5},
                   {"m2@0", "mlp", 2, 0.4},
                   {"or1@0", "or", 2, 0.9, {{"any one suffices", "m1 | m2"}}},
                   {"sink[3-5]", "sink", 5, 1.0}};
  circuit.edges = {{"input@0", "m0@0", 0.9},     {"m0@0", "m1@0", 0.2},
                   {"m0@0", "m2@0", 0.1},        {"m1@0", "or1@0", 0.3, "or"},
                   {"m2@0", "or1@0", 0.2, "or"}, {"or1@0", "sink[3-5]", 0.9}};
  return circuit;
}

TEST(Circuit, HasJunctionsOfAlternatives) {
  const Circuit circuit = with_a_junction();
  EXPECT_NO_THROW(check(circuit));
  // Everything passes the junction, which is no component; what all routes share is one.
  EXPECT_EQ(bottlenecks(circuit), (Names{"m0@0"}));
  const std::string dot = to_dot(circuit);
  EXPECT_NE(dot.find("label=\"OR\\n0.9\" shape=circle"), std::string::npos) << dot;
  const Circuit back = circuit_from_dot(dot);
  EXPECT_EQ(to_dot(back), dot);
  EXPECT_EQ(back.edges.size(), circuit.edges.size());
  EXPECT_EQ(to_json(circuit_from_json(to_json(circuit))), to_json(circuit));
  // A junction comes after the last of its senders.
  Circuit early = circuit;
  early.nodes[4].layer = 1;
  EXPECT_THROW(check(early), Error);
}

TEST(Circuit, NamesTheNeuronsThatCarryANode) {
  Circuit circuit = with_a_junction();
  circuit.nodes[3].notes["neurons"] = "n90, n430: 98 %";
  EXPECT_NE(to_dot(circuit).find("n90, n430: 98 %\" shape=hexagon"), std::string::npos);
}

TEST(Circuit, LosesItsDeadEnds) {
  Circuit circuit = test::sample_circuit();
  const Circuit whole = prune_dead_ends(circuit);
  EXPECT_EQ(names_of(whole), names_of(circuit));
  EXPECT_EQ(whole.edges.size(), circuit.edges.size());
  circuit.nodes.push_back({"a4.h1", "head", 4});      // leads nowhere
  circuit.nodes.push_back({"a1.h2", "head", 1});      // comes from nowhere
  circuit.nodes.push_back({"m5", "mlp", 5});          // touches nothing
  circuit.nodes.push_back({"logits", "logits", 12});  // is reached by nothing
  circuit.edges.push_back({"m2@0", "a4.h1", 1});
  circuit.edges.push_back({"a1.h2", "m2@0", 1});
  const Circuit pruned = prune_dead_ends(circuit);
  EXPECT_EQ(names_of(pruned), names_of(whole));
  EXPECT_EQ(pruned.edges.size(), whole.edges.size());
  EXPECT_EQ(pruned.title, circuit.title);
  EXPECT_TRUE(prune_dead_ends(Circuit{}).nodes.empty());
}

TEST(Circuit, HasTheBottlenecksThatNoPathGoesAround) {
  Circuit circuit = test::sample_circuit();
  EXPECT_EQ(bottlenecks(circuit), (Names{"m0@0", "m2@0"}));
  circuit.edges.push_back({"a0@0", "m1@0", 0.1});
  EXPECT_EQ(bottlenecks(circuit), Names{"m2@0"});
  circuit.edges.push_back({"a0@0", "sink[3-9]", 0.1});
  EXPECT_EQ(bottlenecks(circuit), Names{});
}

// The definition, by brute force: a bottleneck is a component without which nothing arrives.
TEST(Circuit, HasTheBottlenecksOfTheDefinition) {
  unsigned state = 1;
  const auto random = [&](unsigned below) {
    return (state = state * 1664525U + 1013904223U) / 65536U % below;
  };
  int found = 0;
  for (int trial = 0; trial < 100; ++trial) {
    Circuit circuit;
    circuit.nodes.push_back({"input", "input", -1});
    for (int i = 0; i < 7; ++i) circuit.nodes.push_back({"m" + std::to_string(i), "mlp", i});
    circuit.nodes.push_back({"logits", "logits", 7});
    for (std::size_t i = 0; i < 9; ++i) {
      for (std::size_t j = i + 1; j < 9; ++j) {
        if (random(100) < 30)
          circuit.edges.push_back({circuit.nodes[i].name, circuit.nodes[j].name, 1});
      }
    }
    const auto arrives = [&](const std::string& without) {
      Circuit rest = circuit;
      std::erase_if(rest.edges,
                    [&](const CircuitEdge& e) { return e.from == without || e.to == without; });
      return !prune_dead_ends(rest).edges.empty();
    };
    Names expected;
    if (arrives("")) {
      for (int i = 0; i < 7; ++i) {
        if (!arrives("m" + std::to_string(i))) expected.push_back("m" + std::to_string(i));
      }
    }
    EXPECT_EQ(bottlenecks(circuit), expected) << trial;
    found += static_cast<int>(expected.size());
  }
  EXPECT_GT(found, 20);
}

}  // namespace
}  // namespace plumb
