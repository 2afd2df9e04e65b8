// Edge circuits in the field's formats, there and back, and what is broken.
#include "plumb/edge_formats.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "plumb/circuit_files.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Read = std::function<EdgeCircuit(const std::string&)>;

EdgeCircuit scored(const EdgeSpace& space, unsigned seed, std::int64_t n) {
  EdgeCircuit made = empty_circuit(space);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (double& score : made.scores) score = std::exp(3 * normal(random)) * normal(random);
  made.title = "a \"title\" \\ & <drain>, \xE6\xB0\xB4";
  made.convention = "loss, removed - full;\nper example";
  made.d_model = 768;
  return pruned(top_edges(made, n, true));
}

void expect_equal(const EdgeCircuit& a, const EdgeCircuit& b) {
  EXPECT_EQ(a.space, b.space);
  EXPECT_TRUE(a.in == b.in);
  EXPECT_TRUE(a.scores == b.scores);
  EXPECT_EQ(a.title, b.title);
  EXPECT_EQ(a.convention, b.convention);
  EXPECT_EQ(a.d_model, b.d_model);
}

void expect_refused(const Read& read, const std::string& text, const std::string& reason) {
  try {
    (void)read(text);
    ADD_FAILURE() << "accepted: " << reason << ": " << text.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file) << error.what();
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

// Whatever the bytes: a circuit, or one error that says that the file is bad.
void expect_survives(const Read& read, const std::string& sound, int least_refused) {
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text = sound;
    if (i % 3 == 0) {
      text.resize(random() % text.size());
    } else {
      text[random() % text.size()] = static_cast<char>(random());
      if (i % 3 == 2) text[random() % text.size()] = "0123456789-.e\"{}[]<>"[random() % 20];
    }
    try {
      check(read(text));
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::bad_file || error.kind() == ErrorKind::unsupported)
          << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, least_refused);
}

std::string changed(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

EdgeCircuit from_eap_ig(const std::string& text) { return edge_circuit_from_eap_ig(text); }
EdgeCircuit from_json(const std::string& text) { return edge_circuit_from_json(text); }

TEST(EdgeJson, ReturnsTheSameCircuit) {
  for (const EdgeSpace& space : {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2, true)}) {
    const EdgeCircuit circuit = scored(space, 1, space.edges() / 50);
    const std::string text = to_json(circuit);
    expect_equal(from_json(text), circuit);
    EXPECT_EQ(to_json(from_json(text)), text);
  }
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  ASSERT_EQ(count_edges(whole), 32'491);
  expect_equal(from_json(to_json(whole)), whole);
}

TEST(EdgeJson, RefusesWhatIsBroken) {
  const EdgeCircuit circuit = scored(EdgeSpace(2, 2, 2), 1, 20);
  const std::string text = to_json(circuit);
  const std::string name = nlohmann::json::parse(text).at("edges").at(0).at(0);
  expect_refused(from_json, text.substr(0, text.size() / 2), "not valid JSON");
  expect_refused(from_json, "[]", "should be a JSON object");
  expect_refused(from_json, changed(text, "\"layers\": 2", "\"layers\": 0"), "layers");
  expect_refused(from_json, changed(text, "\"layers\": 2", "\"layers\": 100000"), "too few");
  expect_refused(from_json, changed(text, "\"kv_heads\": 2", "\"kv_heads\": 3"), "multiple");
  expect_refused(from_json, changed(text, name, "a9.h9->m1"), "no edge");
  expect_refused(from_json, changed(text, "[\"" + name + "\", ", "[\"" + name + "\", NaN"), "JSON");
  expect_refused(from_json, changed(text, "\"edges\": [", "\"edges\": [[\"" + name + "\", 1], "),
                 "occurs twice");
  expect_refused(from_json, changed(text, "\"edges\": [", "\"edges\": [3, "), "is not [name");
  expect_refused(from_json, changed(text, "\"title\"", "\"else\""), "unknown");
  expect_survives(from_json, text, 1000);
}

TEST(EapIgJson, ReturnsTheSameCircuit) {
  for (const EdgeSpace& space :
       {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2, true), EdgeSpace(3, 5, 1), EdgeSpace(2, 8, 4)}) {
    const EdgeCircuit circuit = scored(space, 2, space.edges() / 50);
    const std::string text = to_eap_ig(circuit);
    expect_equal(from_eap_ig(text), circuit);
    EXPECT_EQ(to_eap_ig(from_eap_ig(text)), text);
  }
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  expect_equal(from_eap_ig(to_eap_ig(whole)), whole);
}

TEST(EapIgJson, GivesEachHeadOfAGroupItsPart) {
  EdgeCircuit circuit = empty_circuit(EdgeSpace(2, 4, 2));
  const auto edge = static_cast<std::size_t>(circuit.space.find_edge("input->a1.h1<k>").value());
  circuit.in[edge] = 1;
  circuit.scores[edge] = 3.0;
  const auto json = nlohmann::json::parse(to_eap_ig(circuit));
  EXPECT_EQ(json.at("edges").size(), static_cast<std::size_t>(EdgeSpace(2, 4, 4).edges()));
  EXPECT_EQ(json.at("edges").at("input->a1.h2<k>"),
            (nlohmann::json{{"score", 1.5}, {"in_graph", true}}));
  EXPECT_EQ(json.at("edges").at("input->a1.h3<k>").at("score"), 1.5);
  EXPECT_EQ(json.at("edges").at("input->a1.h1<k>").at("in_graph"), false);
  EXPECT_EQ(json.at("cfg").at("n_heads"), 4);
  EXPECT_EQ(json.at("nodes").at("logits").at("in_graph"), true);
  // As a peer would leave it, without our words: every head for itself, or grouped when asked.
  auto bare = json;
  bare.erase("plumb");
  bare["edges"]["input->a1.h3<k>"]["in_graph"] = false;
  EXPECT_EQ(from_eap_ig(bare.dump()).space, EdgeSpace(2, 4, 4));
  const EdgeCircuit back = edge_circuit_from_eap_ig(bare.dump(), 2);
  EXPECT_EQ(back.in, circuit.in);
  EXPECT_EQ(back.scores, circuit.scores);
}

// A file as the peer's writer makes it: its order, its node fields, edges that are not all there.
TEST(EapIgJson, ReadsWhatThePeerWrites) {
  const std::string text =
      R"({"cfg": {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": false, "d_model": 8},)"
      R"( "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": true, "score": 0.5,)"
      R"( "neurons": [true, true]}, "m0": {"in_graph": false}, "logits": {"in_graph": true}},)"
      R"( "edges": {"input->a0.h0<q>": {"score": 1e-05, "in_graph": true},)"
      R"( "a0.h0->logits": {"score": -2, "in_graph": true}}})";
  const EdgeCircuit circuit = from_eap_ig(text);
  EXPECT_EQ(circuit.space, EdgeSpace(1, 1, 1));
  EXPECT_EQ(count_edges(circuit), 2);
  EXPECT_EQ(circuit.d_model, 8);
  EXPECT_EQ(
      circuit.scores.at(static_cast<std::size_t>(circuit.space.find_edge("a0.h0->logits").value())),
      -2.0);
  expect_refused(from_eap_ig, changed(text, "a0.h0->logits", "a0.h0->a0.h0<q>"), "no edge");
  expect_refused(from_eap_ig, changed(text, "\"m0\"", "\"m1\""), "no component");
  expect_refused(from_eap_ig, changed(text, "-2, \"in_graph\": true", "-2"), "in_graph");
  expect_refused(from_eap_ig, changed(text, "-2", "\"-2\""), "score");
  expect_refused(from_eap_ig, changed(text, "-2", "NaN"), "JSON");
  expect_refused(from_eap_ig, changed(text, "-2", "1e999"), "JSON");
  expect_refused(from_eap_ig, changed(text, "\"n_layers\": 1, ", ""), "n_layers");
  expect_refused(from_eap_ig, changed(text, "a0.h0->logits", "input->a0.h0<q>"), "twice");
  expect_refused(from_eap_ig, changed(text, "\"n_heads\": 1", "\"n_heads\": 1000000"), "too few");
  try {
    (void)from_eap_ig(changed(text, "[true, true]", "[true, false]"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
  }
  expect_survives(from_eap_ig, text, 1000);
}

// Twice the second of the design, for a machine that does something else as well.
TEST(EapIgJson, TakesASecondForGpt2) {
  const EdgeCircuit circuit = scored(EdgeSpace(12, 12, 12), 3, 700);
  const auto start = std::chrono::steady_clock::now();
  const std::string text = to_eap_ig(circuit);
  const auto written = std::chrono::steady_clock::now();
  (void)from_eap_ig(text);
  const auto read = std::chrono::steady_clock::now();
  EXPECT_LT(std::chrono::duration<double>(written - start).count(), 2.0);
  EXPECT_LT(std::chrono::duration<double>(read - written).count(), 2.0);
  RecordProperty("write_ms", std::to_string((written - start) / std::chrono::milliseconds(1)));
  RecordProperty("read_ms", std::to_string((read - written) / std::chrono::milliseconds(1)));
}

EdgeCircuit from_graphml(const std::string& text) { return edge_circuit_from_graphml(text); }
EdgeCircuit from_dot(const std::string& text) { return edge_circuit_from_dot(text); }
EdgeCircuit from_neuronpedia(const std::string& text) {
  return edge_circuit_from_neuronpedia(text);
}

// What formats of the edges that are in keep.
EdgeCircuit only_in(EdgeCircuit circuit) {
  for (std::size_t edge = 0; edge < circuit.in.size(); ++edge) {
    if (circuit.in[edge] == 0) circuit.scores[edge] = 0.0;
  }
  return circuit;
}

TEST(EdgeGraphml, ReturnsTheSameCircuit) {
  for (const EdgeSpace& space : {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2, true)}) {
    const EdgeCircuit circuit = scored(space, 1, space.edges() / 50);
    expect_equal(from_graphml(to_graphml(circuit)), circuit);
  }
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  ASSERT_EQ(count_edges(whole), 32'491);
  expect_equal(from_graphml(to_graphml(whole)), whole);
}

TEST(EdgeGraphml, RefusesWhatIsBroken) {
  const std::string text = to_graphml(scored(EdgeSpace(2, 2, 2), 1, 20));
  expect_refused(from_graphml, "", "ends before");
  expect_refused(from_graphml, text.substr(0, text.size() / 2), "byte");
  expect_refused(from_graphml, changed(text, "<data key=\"score\">", "<data key=\"score\">NaN"),
                 "no number");
  expect_refused(from_graphml, changed(text, "key=\"in_graph\">", "key=\"in_graph\">x"), "neither");
  expect_refused(from_graphml, changed(text, "<data key=\"heads\">2", "<data key=\"heads\">2x"),
                 "no number");
  expect_refused(from_graphml,
                 changed(text, "<data key=\"layers\">2", "<data key=\"layers\">900000"), "too few");
  expect_refused(from_graphml, changed(text, "source=\"", "source=\"x"), "no edge");
  expect_refused(from_graphml, changed(text, "&lt;", "&lt"), "entity");
  expect_refused(from_graphml, changed(text, "<graph ", "<!DOCTYPE x [<!ENTITY a \"b\">]><graph "),
                 "definitions");
  const std::size_t edge = text.find("<edge ");
  const std::string again = text.substr(edge, text.find("</edge>") + 7 - edge);
  expect_refused(from_graphml, changed(text, "</graph>", again + "</graph>"), "occurs twice");
  std::string deep = "<graphml>";
  for (int i = 0; i < 200'000; ++i) deep += "<a>";
  expect_refused(from_graphml, deep, "ends before");
  expect_survives(from_graphml, text, 600);
}

TEST(EdgeDot, ReturnsWhatIsDrawn) {
  for (const EdgeSpace& space : {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2, true)}) {
    const EdgeCircuit circuit = scored(space, 1, space.edges() / 50);
    expect_equal(from_dot(to_dot(circuit)), only_in(circuit));
  }
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  expect_equal(from_dot(to_dot(whole)), whole);
}

TEST(EdgeDot, RefusesWhatIsBroken) {
  const std::string text = to_dot(scored(EdgeSpace(2, 2, 1), 1, 20));
  expect_refused(from_dot, "", "expected");
  expect_refused(from_dot, "graph { }", "digraph");
  expect_refused(from_dot, text.substr(0, text.size() / 2), "byte");
  expect_refused(from_dot, text + "x", "the end");
  expect_refused(from_dot, changed(text, "plumb_graph=\"2 2", "plumb_graph=\"2 x"), "no number");
  expect_refused(from_dot, changed(text, "plumb_graph=", "plumb_grapes="), "no number");
  expect_refused(from_dot, changed(text, "plumb_graph=\"2 2", "plumb_graph=\"-2 2"), "layers");
  const std::size_t edge = text.find("-> \"logits\" [color");
  const std::string line =
      text.substr(text.rfind('\n', edge), text.find('\n', edge) - text.rfind('\n', edge));
  expect_refused(from_dot, changed(text, line, line + line), "occurs twice");
  expect_refused(from_dot,
                 changed(text, line, changed(line, "plumb_score=\"", "plumb_score=\"nan")), "");
  expect_survives(from_dot, text, 600);
}

TEST(EdgeDot, ReadsCircuitsOfOtherParts) {
  Circuit circuit{.title = "a \\ title", .convention = "c"};
  circuit.nodes = {{"input@0", "input", -1, 0.0, {}},
                   {"m2.n90@0", "neuron", 2, 0.5, {{"note", "with \"quotes\"\nand lines"}}},
                   {"sink[3-9]", "sink", 3, 0.25, {}}};
  circuit.edges = {{"input@0", "m2.n90@0", 0.1, "or"}, {"m2.n90@0", "sink[3-9]", -1e-300, ""}};
  const Circuit back = circuit_from_dot(to_dot(circuit));
  EXPECT_EQ(to_json(back), to_json(circuit));
  EXPECT_THROW((void)circuit_from_dot("digraph { a -> b }"), Error);
}

TEST(NeuronpediaJson, ReturnsWhatIsIn) {
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  expect_equal(from_neuronpedia(to_neuronpedia(whole)), whole);
  const EdgeCircuit circuit = scored(EdgeSpace(4, 6, 2), 1, 60);
  const std::string text = to_neuronpedia(
      circuit,
      {.slug = "s", .scan = "gpt2", .prompt = "a \"b\"", .prompt_tokens = {"a", " \"b\""}});
  expect_equal(from_neuronpedia(text), only_in(circuit));
  // What the schema asks for, every id once, and links between nodes that there are.
  const auto json = nlohmann::json::parse(text);
  for (const char* field : {"slug", "scan", "prompt_tokens", "prompt"})
    EXPECT_TRUE(json.at("metadata").contains(field)) << field;
  EXPECT_TRUE(json.contains("qParams"));
  std::set<std::string> ids;
  for (const auto& node : json.at("nodes")) {
    for (const char* field :
         {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"})
      EXPECT_TRUE(node.contains(field)) << field;
    EXPECT_EQ(node.at("ctx_idx"), 1);
    EXPECT_TRUE(ids.insert(node.at("node_id")).second);
  }
  EXPECT_EQ(static_cast<std::int64_t>(ids.size()), count_nodes(circuit) + 1);
  for (const auto& link : json.at("links")) {
    EXPECT_TRUE(ids.contains(link.at("source")));
    EXPECT_TRUE(ids.contains(link.at("target")));
  }
  EXPECT_EQ(static_cast<std::int64_t>(json.at("links").size()), count_edges(circuit));
}

// What nothing from the input reaches, as a selection leaves it before pruning.
TEST(NeuronpediaJson, ReturnsCircuitsWithoutTheInput) {
  EdgeCircuit circuit = empty_circuit(EdgeSpace(2, 2, 2));
  for (const char* name : {"a0.h1->m1", "m1->logits"}) {
    const auto edge = static_cast<std::size_t>(circuit.space.find_edge(name).value());
    circuit.in[edge] = 1;
    circuit.scores[edge] = 0.5;
  }
  expect_equal(from_neuronpedia(to_neuronpedia(circuit)), circuit);
}

TEST(NeuronpediaJson, RefusesWhatIsBroken) {
  const std::string text = to_neuronpedia(scored(EdgeSpace(2, 2, 2), 1, 20));
  expect_refused(from_neuronpedia, changed(text, "\"links\"", "\"lynx\""), "links");
  expect_refused(from_neuronpedia, changed(text, "\"plumb_edge\": \"", "\"plumb_edge\": \"x"),
                 "no edge");
  expect_refused(from_neuronpedia, changed(text, "\"weight\": ", "\"weight\": \"\", \"w\": "),
                 "weight");
  expect_refused(from_neuronpedia, R"({"metadata": {}, "links": []})", "generation_settings");
  expect_survives(from_neuronpedia, text, 1000);
}

TEST(EdgePruningList, ReturnsWhatIsIn) {
  for (const EdgeSpace& space : {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2)}) {
    const EdgeCircuit circuit = scored(space, 1, space.edges() / 3);
    const EdgeCircuit back =
        edge_circuit_from_edge_pruning(to_edge_pruning(circuit), circuit.space);
    EXPECT_TRUE(back.in == circuit.in);
  }
  const EdgeSpace space(12, 12, 12);
  EXPECT_EQ(
      count_edges(edge_circuit_from_edge_pruning(to_edge_pruning(full_circuit(space)), space)),
      32'491);
  EXPECT_EQ(to_edge_pruning(empty_circuit(space)), "[]\n");
}

TEST(EdgePruningList, SpeaksThePeersNames) {
  const EdgeSpace space(2, 2, 2);
  const auto read = [&](const std::string& text) {
    return edge_circuit_from_edge_pruning(text, space);
  };
  const EdgeCircuit circuit = read(
      R"([["tok_embeds", "a0.h1.q"], ["a0.h1.q", "a0.h1"], ["a0.h1", "m1"], ["m1", "resid_post"]])");
  EXPECT_EQ(count_edges(circuit), 3);
  EXPECT_EQ(circuit.in[static_cast<std::size_t>(space.find_edge("input->a0.h1<q>").value())], 1);
  EXPECT_EQ(circuit.in[static_cast<std::size_t>(space.find_edge("m1->logits").value())], 1);
  expect_refused(read, "{}", "list");
  expect_refused(read, R"([["m1"]])", "writer");
  expect_refused(read, R"([["m1", "m0"]])", "no edge");
  expect_refused(read, R"([["m0", "m1"], ["m0", "m1"]])", "twice");
  expect_refused(read, R"([["input", "m1"]])", "no edge");
  expect_survives(read, to_edge_pruning(circuit), 1000);
}

TEST(EdgeTensors, ReturnTheSameCircuit) {
  for (const EdgeSpace& space : {EdgeSpace(12, 12, 12), EdgeSpace(4, 6, 2, true)}) {
    const EdgeCircuit circuit = scored(space, 2, space.edges() / 50);
    const auto file = test::scratch_dir() / "circuit.safetensors";
    write_tensors(circuit, file);
    expect_equal(edge_circuit_from_tensors(file), circuit);
  }
  const EdgeCircuit whole = scored(EdgeSpace(12, 12, 12), 1, 32'491);
  const auto file = test::scratch_dir() / "whole.safetensors";
  write_tensors(whole, file);
  expect_equal(edge_circuit_from_tensors(file), whole);
}

TEST(EdgeArchive, ReturnsTheSameCircuit) {
  for (const EdgeCircuit& circuit :
       {scored(EdgeSpace(12, 12, 12), 1, 32'491), scored(EdgeSpace(12, 12, 12), 4, 700),
        scored(EdgeSpace(4, 6, 2, true), 2, 40)}) {
    const auto file = test::scratch_dir() / "circuit.h5";
    write_circuit(circuit, file, CircuitFormat::hdf5);
    expect_equal(read_circuit(file), circuit);
  }
}

TEST(EdgeArchive, RefusesWhatIsBroken) {
  const auto file = test::scratch_dir() / "circuit.h5";
  write_circuit(scored(EdgeSpace(2, 2, 1), 1, 20), file, CircuitFormat::hdf5);
  std::ifstream in(file, std::ios::binary);
  const std::string sound{std::istreambuf_iterator<char>(in), {}};
  const auto read = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return read_circuit(file);
  };
  expect_refused(read, sound.substr(0, sound.size() / 2), "");
  expect_refused(read, "HDF", "");
  std::mt19937 random(5);
  int refused = 0;
  constexpr int tries = 300;
  for (int i = 0; i < tries; ++i) {
    std::string bytes = sound;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    try {
      check(read(bytes));
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::bad_file || error.kind() == ErrorKind::unsupported)
          << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 10);
}

TEST(EdgeTensors, RefuseWhatIsBroken) {
  const auto file = test::scratch_dir() / "circuit.safetensors";
  write_tensors(scored(EdgeSpace(2, 2, 2), 1, 20), file);
  std::ifstream in(file, std::ios::binary);
  const std::string sound{std::istreambuf_iterator<char>(in), {}};
  const auto read = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return edge_circuit_from_tensors(file);
  };
  expect_refused(read, changed(sound, "edges_scores", "edges_sc0res"), "no tensor edges_scores");
  expect_refused(read, changed(sound, "\\\"n_heads\\\": 2", "\\\"n_heads\\\": 1"), "key heads");
  expect_refused(read, changed(sound, "\"kv_heads\":\"2\"", "\"kv_heads\":\"0\""), "key heads");
  expect_refused(read, sound.substr(0, sound.size() - 1), "");
  std::string broken = sound;
  broken.back() = 7;  // a node: not read
  EXPECT_NO_THROW((void)read(broken));
  const std::size_t scores =
      8 + static_cast<unsigned char>(sound[0]) + 256U * static_cast<unsigned char>(sound[1]);
  broken = sound;
  for (std::size_t i = 0; i < 8; ++i) broken[scores + i] = static_cast<char>(0xFF);
  expect_refused(read, broken, "not finite");
  broken = sound;  // the last sender feeds no receiver but the logits
  broken[scores + 8 * (7 * 15 - 2) + 7] = 0x40;
  expect_refused(read, broken, "no edge");
}

}  // namespace
}  // namespace plumb
