// Edge circuits in the formats of the field. Each is read back as it was written.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/edge_circuit.h"

namespace plumb {

// Readers throw bad_file with one line for anything that is not what they read: broken text, wrong
// types, unknown components, an edge that occurs twice or does not exist, a score that is not
// finite. They allocate in proportion to the text, and 40 MB for the model's edges.

/// {"plumb_circuit": 1, "title", "convention", "graph": {"layers", "heads", "kv_heads", "parallel",
/// "d_model"}, "edges": [["a0.h1->m2", 0.5], ...], "others": [...]}: the edges that are in, and
/// those of a score that are not.
std::string to_json(const EdgeCircuit& circuit);
EdgeCircuit edge_circuit_from_json(std::string_view json);

/// EAP-IG's and MIB's JSON: {"cfg": {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"},
/// "nodes": {name: {"in_graph"}}, "edges": {name: {"score", "in_graph"}}}, every edge listed. They
/// have a key and a value edge for every head: of an edge into a key head, each head of the group
/// is written with an equal part of its score, and is in where the edge is. Our own words stand
/// under "plumb", which they pass over.
std::string to_eap_ig(const EdgeCircuit& circuit);
/// With `kv_heads` (that of the file, where plumb wrote it), the edges into the heads of a group
/// become one: the sum of their scores, and in if any is in. Without, every head keeps its own.
/// Edges that are not listed are out and have the score 0, as there. Scores of components are
/// passed over; unsupported where single neurons are left out.
EdgeCircuit edge_circuit_from_eap_ig(std::string_view json, std::optional<int> kv_heads = {});

/// EAP-IG's tensor form, its names in a safetensors file: edges_scores [senders, receivers]
/// float64, edges_in_graph and nodes_in_graph as float32 0 and 1, with a key and a value edge for
/// every head; the numbers of `cfg`, key heads and words stand in `plumb_cfg` [5] and
/// `plumb_words`. The .pt file of the peer is a pickle, which can run any program when it is read:
/// plumb reads none.
void write_tensors(const EdgeCircuit& circuit, const std::filesystem::path& path);
/// Throws bad_file, also where an edge that cannot be is in or has a score.
EdgeCircuit edge_circuit_from_tensors(const std::filesystem::path& path,
                                      std::optional<int> kv_heads = {});

/// GraphML: components with `kind`, `layer` and `head`, edges with `receiver`, `qkv`, `score` and
/// `in_graph`, the model's sizes and the words as data of the graph. Edges that are out and have no
/// score are left out. An edge into a key head ends in the first head of its group.
std::string to_graphml(const EdgeCircuit& circuit);
/// Reads that, and what NetworkX makes of it.
EdgeCircuit edge_circuit_from_graphml(std::string_view xml);

/// The drawing of the circuit (`to_dot` of `named`), with what is needed to read it back: the edges
/// that are in and their scores.
std::string to_dot(const EdgeCircuit& circuit);
EdgeCircuit edge_circuit_from_dot(std::string_view dot);
/// Writes that text, and its drawing beside it, as `draw` of a `Circuit` does.
bool draw(const EdgeCircuit& circuit, const std::filesystem::path& dot_file);

/// What a graph for the Neuronpedia viewer says beside the circuit.
struct ViewWords {
  std::string slug = "plumb-circuit";
  std::string scan = "unknown";  ///< the model
  std::string prompt = {};
  std::vector<std::string> prompt_tokens = {};
};
/// Neuronpedia's attribution graph of the edges that are in: nodes for components, at the prompt's
/// last token, and a link for each edge. Whether the viewer draws heads is not known.
std::string to_neuronpedia(const EdgeCircuit& circuit, const ViewWords& words = {});
/// Reads that back; not graphs of features, which have no such components.
EdgeCircuit edge_circuit_from_neuronpedia(std::string_view json);

/// Edge Pruning's list of [writer, reader]: "tok_embeds" and "pos_embeds", "a0.h1", "m2", to
/// "a3.h4.q", "m3", "resid_post"; the edges that are in, without scores.
std::string to_edge_pruning(const EdgeCircuit& circuit);
/// The list says nothing of the model: it is that of `space`. Both embeddings are the input.
EdgeCircuit edge_circuit_from_edge_pruning(std::string_view json, const EdgeSpace& space);

/// The circuit with every head having its own key and value edges, as the formats above write it.
EdgeCircuit ungrouped(const EdgeCircuit& circuit);
/// The reverse: sums of scores, in if any is. Throws bad_argument unless `kv_heads` divides heads
/// and the circuit has a key head for every head.
EdgeCircuit grouped(const EdgeCircuit& circuit, int kv_heads);

}  // namespace plumb
