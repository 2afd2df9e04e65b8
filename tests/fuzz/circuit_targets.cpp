// Circuits of edges in the formats of the field, and circuits of named components.
#include <string>
#include <string_view>

#include "fuzz/checks.h"
#include "fuzz/targets.h"
#include "plumb/circuit.h"
#include "plumb/edge_circuit.h"
#include "plumb/edge_formats.h"

namespace plumb::fuzz {
namespace {

// Of a larger model a short text may claim more edges than are worth writing again.
constexpr std::int64_t most_edges = 5000;

bool same(const EdgeCircuit& a, const EdgeCircuit& b) {
  return a.space == b.space && a.in == b.in && a.scores == b.scores;
}

/// A circuit that is read is sound, and returns as it was from what is written of it.
template <class Read, class Write>
void read_and_write(std::string_view input, const Read& read, const Write& write) {
  EdgeCircuit circuit;
  if (!reads([&] { circuit = read(input); })) return;
  check(circuit);
  if (circuit.space.edges() > most_edges) return;
  const std::string text = write(circuit);
  require(same(read(text), circuit), "a circuit returns as it was written");
  require(write(read(text)) == text, "its text does too");
  const EdgeCircuit left = pruned(circuit);
  require(count_edges(left) <= count_edges(circuit), "pruning adds nothing");
  require(same(pruned(left), left), "pruning twice is pruning once");
}

template <class Circuits>
void read_and_write_named(std::string_view input, const Circuits& read,
                          std::string (*write)(const Circuit&)) {
  Circuit circuit;
  if (!reads([&] { circuit = read(input); })) return;
  check(circuit);
  const std::string text = write(circuit);
  require(write(read(text)) == text, "a circuit of components returns as it was written");
}

}  // namespace

/// `input` is plumb's JSON, of edges or of components.
void run_circuit_json(std::string_view input) {
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_json(text); },
      [](const EdgeCircuit& circuit) { return to_json(circuit); });
  read_and_write_named(
      input, [](std::string_view text) { return circuit_from_json(text); },
      [](const Circuit& circuit) { return to_json(circuit); });
}

/// `input` is EAP-IG's JSON.
void run_eap_ig(std::string_view input) {
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_eap_ig(text); },
      [](const EdgeCircuit& circuit) { return to_eap_ig(circuit); });
  // Joined by key heads: another circuit, if the heads are a multiple of the key heads.
  EdgeCircuit joined;
  if (reads([&] { joined = edge_circuit_from_eap_ig(input, 1); })) check(joined);
}

/// `input` is a graph of Neuronpedia's.
void run_neuronpedia(std::string_view input) {
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_neuronpedia(text); },
      [](const EdgeCircuit& circuit) { return to_neuronpedia(circuit); });
}

/// `input` is Edge Pruning's list, of a model of two blocks.
void run_edge_pruning(std::string_view input) {
  static const EdgeSpace space(2, 2, 1);
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_edge_pruning(text, space); },
      [](const EdgeCircuit& circuit) { return to_edge_pruning(circuit); });
}

/// `input` is Graphviz text of ours, of edges or of components.
void run_dot(std::string_view input) {
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_dot(text); },
      [](const EdgeCircuit& circuit) { return to_dot(circuit); });
  read_and_write_named(
      input, [](std::string_view text) { return circuit_from_dot(text); },
      [](const Circuit& circuit) { return to_dot(circuit); });
}

/// `input` is GraphML.
void run_graphml(std::string_view input) {
  read_and_write(
      input, [](std::string_view text) { return edge_circuit_from_graphml(text); },
      [](const EdgeCircuit& circuit) { return to_graphml(circuit); });
}

}  // namespace plumb::fuzz
