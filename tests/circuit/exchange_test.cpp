// Circuits as JSON, as Graphviz text and as drawings.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "circuit/sample.h"
#include "plumb/circuit.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void expect_equal(const Circuit& a, const Circuit& b) {
  EXPECT_EQ(a.title, b.title);
  EXPECT_EQ(a.convention, b.convention);
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < a.nodes.size(); ++i) {
    EXPECT_EQ(a.nodes[i].name, b.nodes[i].name);
    EXPECT_EQ(a.nodes[i].kind, b.nodes[i].kind);
    EXPECT_EQ(a.nodes[i].layer, b.nodes[i].layer);
    EXPECT_EQ(a.nodes[i].score, b.nodes[i].score);
    EXPECT_EQ(a.nodes[i].notes, b.nodes[i].notes);
  }
  ASSERT_EQ(a.edges.size(), b.edges.size());
  for (std::size_t i = 0; i < a.edges.size(); ++i) {
    EXPECT_EQ(a.edges[i].from, b.edges[i].from);
    EXPECT_EQ(a.edges[i].to, b.edges[i].to);
    EXPECT_EQ(a.edges[i].score, b.edges[i].score);
    EXPECT_EQ(a.edges[i].kind, b.edges[i].kind);
    ASSERT_EQ(a.edges[i].interval.has_value(), b.edges[i].interval.has_value());
    if (!a.edges[i].interval) continue;
    EXPECT_EQ(a.edges[i].interval->low, b.edges[i].interval->low);
    EXPECT_EQ(a.edges[i].interval->high, b.edges[i].interval->high);
  }
}

TEST(CircuitJson, ReturnsTheSameCircuit) {
  const Circuit circuit = test::sample_circuit();
  const std::string json = to_json(circuit);
  expect_equal(circuit_from_json(json), circuit);
  EXPECT_EQ(to_json(circuit_from_json(json)), json);
  expect_equal(circuit_from_json(to_json(Circuit{})), Circuit{});
}

TEST(CircuitJson, ReadsTheStablePartAlone) {
  const Circuit circuit = circuit_from_json(
      R"({"nodes": [{"name": "input", "kind": "input", "layer": -1, "score": 0},
                    {"name": "logits", "kind": "logits", "layer": 2, "score": 1}],
          "edges": [{"from": "input", "to": "logits", "score": -1.5}]})");
  EXPECT_EQ(circuit.nodes.size(), 2U);
  EXPECT_EQ(circuit.edges.at(0).score, -1.5);
}

std::string with_interval(const std::string& interval) {
  return R"({"nodes": [{"name": "input", "kind": "input", "layer": -1, "score": 0},
                       {"name": "logits", "kind": "logits", "layer": 2, "score": 1}],
             "edges": [{"from": "input", "to": "logits", "score": 0.1, "interval": )" +
         interval + "}]}";
}

TEST(CircuitJson, RefusesAnythingElse) {
  EXPECT_EQ(circuit_from_json(with_interval("[0.1, 0.25]")).edges.at(0).interval->high, 0.25);
  const std::string node = R"({"name": "input", "kind": "input", "layer": -1, "score": 0})";
  const std::string cases[] = {
      "",
      "{",
      "[]",
      "null",
      R"({"nodes": []})",
      R"({"nodes": {}, "edges": []})",
      R"({"nodes": [], "edges": [], "more": 1})",
      R"({"nodes": [1], "edges": []})",
      R"({"nodes": [], "nodes": [], "edges": []})",
      R"({"nodes": [{}], "edges": []})",
      R"({"nodes": [{"name": 1, "kind": "input", "layer": -1, "score": 0}], "edges": []})",
      R"({"nodes": [{"name": "a", "kind": "mlp", "layer": 1.5, "score": 0}], "edges": []})",
      R"({"nodes": [{"name": "a", "kind": "mlp", "layer": 1e99, "score": 0}], "edges": []})",
      R"({"nodes": [{"name": "a", "kind": "mlp", "layer": 1, "score": 1e999}], "edges": []})",
      R"({"nodes": [{"name": "a", "kind": "mlp", "layer": 1, "score": 0, "x": 0}], "edges": []})",
      R"({"nodes": [{"name": "a", "kind": "mlp", "layer": 1, "score": 0, "notes": {"a": 1}}], "edges": []})",
      R"({"nodes": [], "edges": [{"from": "a", "to": "b", "score": 1}]})",
      "{\"nodes\": [" + node + "," + node + "], \"edges\": []}",
      with_interval("[0.1]"),
      with_interval("[0.1, 0.2, 0.3]"),
      with_interval("[0.2, 0.1]"),
      with_interval("[0.1, \"0.2\"]"),
      with_interval("[0.1, 1e999]"),
      with_interval("0.1"),
      std::string(100'000, '['),
      "{\"nodes\": [\"\xff\"], \"edges\": []}"};
  for (const std::string& json : cases) {
    try {
      (void)circuit_from_json(json);
      ADD_FAILURE() << json.substr(0, 100);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file) << error.what();
    }
  }
}

TEST(CircuitJson, SurvivesDamage) {
  const std::string sound = to_json(test::sample_circuit());
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string json = sound;
    if (i % 3 == 0)
      json.resize(random() % json.size());
    else
      json[random() % json.size()] = static_cast<char>(random());
    try {
      check(circuit_from_json(json));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file);
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(CircuitDot, SaysEverythingOnceAndDeterministically) {
  const std::string dot = to_dot(test::sample_circuit());
  EXPECT_EQ(dot, to_dot(test::sample_circuit()));
  for (const char* part :
       {"\"m2.n90@0\" -> \"m2@0\"", "plumb_score=\"0.30000000000000004\"", "plumb_score=\"1e-300\"",
        "style=dashed", "style=dotted", "plumb legend", "plumb_low=\"0.30000000000000004\"",
        "plumb_high=\"0.3333333333333333\"", "score 0.31 [0.3, 0.333333]", "rank=same",
        "label=\"a \\\"small\\\" circuit &amp; its <drain>\"",
        "\"plumb_note_path\"=\"C:\\\\x \\\"y\\\"\n水\"", "layer 8"}) {
    EXPECT_NE(dot.find(part), std::string::npos) << part << "\n" << dot;
  }
}

TEST(CircuitDot, DrawsWithGraphvizWhereItIsInstalled) {
  const fs::path file = test::scratch_dir() / "circuit.dot";
  const bool drawn = draw(test::sample_circuit(), file);
  EXPECT_EQ(text_of(file), to_dot(test::sample_circuit()));
  if (!drawn) GTEST_SKIP() << "Graphviz's `dot` is not installed";
  const std::string svg = text_of(file.parent_path() / "circuit.svg");
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  for (const char* part : {"sink[3&#45;9]", "&quot;small&quot;", "水", "stroke-dasharray"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(file.parent_path()), fs::directory_iterator()), 2);
}

TEST(CircuitDot, IsValidForNamesThatGraphvizCouldMisread) {
  Circuit circuit = test::sample_circuit();
  circuit.title = "back\\slash at the end\\";
  for (const char* name :
       {"node", "}\"];", "\\", "\\N", "a\nb", "&lt;", "<b>", "\xff", "plumb", "-x:n"}) {
    circuit.nodes.push_back({name, "mlp", 20, 1.0, {{name, name}}});
    circuit.edges.push_back({"input@0", name, 1.0});
  }
  const fs::path file = test::scratch_dir() / "circuit.dot";
  if (!draw(test::sample_circuit(), file)) GTEST_SKIP() << "Graphviz's `dot` is not installed";
  EXPECT_TRUE(draw(circuit, file));
}

TEST(CircuitDot, WritesTheTextWithoutGraphviz) {
  const fs::path dir = test::scratch_dir();
  const std::string before = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
  setenv("PATH", dir.c_str(), 1);
  const bool drawn = draw(test::sample_circuit(), dir / "circuit.dot");
  setenv("PATH", before.c_str(), 1);
  EXPECT_FALSE(drawn);
  EXPECT_TRUE(fs::exists(dir / "circuit.dot"));
  EXPECT_FALSE(fs::exists(dir / "circuit.svg"));
}

TEST(CircuitDot, ReportsADirectoryThatIsMissing) {
  try {
    (void)draw(test::sample_circuit(), test::scratch_dir() / "absent" / "circuit.dot");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
  }
  EXPECT_THROW((void)draw(test::sample_circuit(), test::scratch_dir() / "circuit.svg"), Error);
}

}  // namespace
}  // namespace plumb
