// Files of edge circuits, whatever their format.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plumb/edge_circuit.h"
#include "plumb/edge_formats.h"

namespace plumb {

enum class CircuitFormat {
  plumb,         ///< our JSON: "plumb"
  eap_ig,        ///< EAP-IG's and MIB's JSON: "eap-ig"
  tensors,       ///< its tensors as safetensors: "tensors"
  graphml,       ///< "graphml"
  dot,           ///< Graphviz: "dot"
  neuronpedia,   ///< "neuronpedia"
  edge_pruning,  ///< Edge Pruning's list: "edge-pruning"
  hdf5,          ///< an archive, /circuit: "hdf5"
};
const char* to_string(CircuitFormat format) noexcept;
/// Throws bad_argument, saying what there is.
CircuitFormat parse_circuit_format(const std::string& text);

/// The format that a new file of this name gets: of .json ours, else by .safetensors, .graphml,
/// .dot or .gv, .h5 or .hdf5. Throws bad_argument for other names.
CircuitFormat format_of(const std::filesystem::path& path);

struct ReadCircuitOptions {
  std::optional<int> kv_heads = {};     ///< of the formats that have keys and values for every head
  std::optional<EdgeSpace> space = {};  ///< of lists that do not say which model they are of
};

/// Reads a circuit of any of the formats, told apart by name and content; also the scores that
/// `plumb attribute` leaves, as JSON or archive (edges that it did not score are 0; none is in).
/// Throws bad_file, and unsupported for .pt files: they are pickles, which can run any program.
EdgeCircuit read_circuit(const std::filesystem::path& path, const ReadCircuitOptions& options = {});

/// Writes the file whole or not at all. `view` is for Neuronpedia's graphs.
void write_circuit(const EdgeCircuit& circuit, const std::filesystem::path& path,
                   CircuitFormat format, const ViewWords& view = {});

}  // namespace plumb
