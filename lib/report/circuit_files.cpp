#include "plumb/circuit_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <utility>

#include "checkpoint/atomic_file.h"
#include "checkpoint/json.h"
#include "checkpoint/mapped_file.h"
#include "circuit/edge_text.h"
#include "plumb/error.h"
#include "report/circuit_archive.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargest = std::uint64_t{1} << 31;

constexpr std::array<std::pair<const char*, CircuitFormat>, 8> kFormats = {{
    {"plumb", CircuitFormat::plumb},
    {"eap-ig", CircuitFormat::eap_ig},
    {"tensors", CircuitFormat::tensors},
    {"graphml", CircuitFormat::graphml},
    {"dot", CircuitFormat::dot},
    {"neuronpedia", CircuitFormat::neuronpedia},
    {"edge-pruning", CircuitFormat::edge_pruning},
    {"hdf5", CircuitFormat::hdf5},
}};

std::optional<CircuitFormat> by_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".json") return CircuitFormat::plumb;
  if (extension == ".safetensors") return CircuitFormat::tensors;
  if (extension == ".graphml") return CircuitFormat::graphml;
  if (extension == ".dot" || extension == ".gv") return CircuitFormat::dot;
  if (extension == ".h5" || extension == ".hdf5") return CircuitFormat::hdf5;
  return std::nullopt;
}

// The document of `plumb attribute`: "model" {layers, heads, kv_heads}, "edges" [[name, score]].
EdgeCircuit from_attribute(std::string_view text) {
  const std::string where = "attribute JSON";
  const Json document = parse_json(text, where);
  const Fields fields(document, where);
  const Fields model = fields.object("model");
  constexpr std::int64_t most = 1 << 20;
  const Json& edges = fields.raw("edges");
  if (!edges.is_array()) fields.wrong("edges", "a list of [name, score]");
  const auto space = [&](bool parallel) {
    return claimed_space(model.integer("layers", 1, most), model.integer("heads", 1, most),
                         model.integer("kv_heads", 1, most), parallel, text.size(), where);
  };
  // Whether blocks are parallel shows in how many edges there are.
  const std::int64_t count =
      fields.has("total") ? fields.object("total").integer("edges", 0, std::int64_t{1} << 40, 0)
                          : 0;
  const EdgeSpace parallel = space(true);
  EdgeCircuit circuit = empty_circuit(count == parallel.edges() ? parallel : space(false));
  circuit.d_model = static_cast<int>(model.integer("d_model", 0, 1 << 30, 0));
  circuit.title = fields.text("method", "");
  if (fields.has("conventions"))
    circuit.convention = fields.object("conventions").text("score", "");
  EdgeFiller filler(circuit, where);
  for (const Json& edge : edges) {
    if (!edge.is_array() || edge.size() != 2 || !edge[0].is_string())
      filler.refuse("an edge is not [name, score]");
    if (edge[1].is_null()) continue;  // not scored
    if (!edge[1].is_number()) filler.refuse("an edge is not [name, score]");
    filler.put(edge[0].get_ref<const std::string&>(), edge[1].get<double>(), false);
  }
  return circuit;
}

EdgeCircuit from_json(std::string_view text, const ReadCircuitOptions& options) {
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  if (start != std::string_view::npos && text[start] == '[') {
    if (!options.space) {
      throw Error(ErrorKind::bad_argument,
                  "a list of edges does not say which model it is of; name the model, or a file "
                  "of its edges");
    }
    return edge_circuit_from_edge_pruning(text, *options.space);
  }
  const auto has = [&](const char* key) { return text.find(key) != std::string_view::npos; };
  if (has("\"plumb_circuit\"")) return edge_circuit_from_json(text);
  if (has("\"qParams\"")) return edge_circuit_from_neuronpedia(text);
  if (has("\"cfg\"")) return edge_circuit_from_eap_ig(text, options.kv_heads);
  if (has("\"conventions\"")) return from_attribute(text);
  throw Error(ErrorKind::bad_file,
              "is no circuit that plumb knows: neither plumb's own, EAP-IG's, Neuronpedia's nor "
              "Edge Pruning's JSON, nor what plumb attribute leaves");
}

// Errors of what stands in a file, beginning with its name.
template <typename Read>
EdgeCircuit named_errors(const fs::path& path, Read read) {
  try {
    return read();
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace

const char* to_string(CircuitFormat format) noexcept {
  for (const auto& [name, known] : kFormats) {
    if (known == format) return name;
  }
  return "plumb";
}

CircuitFormat parse_circuit_format(const std::string& text) {
  std::vector<std::string> names;
  for (const auto& [name, format] : kFormats) {
    if (text == name) return format;
    names.emplace_back(name);
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected a format among {}, got \"{}\"", fmt::join(names, ", "), text));
}

CircuitFormat format_of(const fs::path& path) {
  if (const auto found = by_name(path)) return *found;
  throw Error(ErrorKind::bad_argument,
              fmt::format("'{}': the name says no format; end it in .json, .safetensors, .graphml, "
                          ".dot or .h5, or name a format",
                          path.string()));
}

EdgeCircuit read_circuit(const fs::path& path, const ReadCircuitOptions& options) {
  const std::string extension = path.extension().string();
  if (extension == ".pt" || extension == ".pth" || extension == ".pkl") {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: a pickle can run any program when it is read, so plumb reads none; "
                    "save the graph as JSON (EAP-IG's to_json) or its tensors as "
                    "safetensors",
                    path.string()));
  }
  if (extension == ".h5" || extension == ".hdf5") return report::read_circuit_archive(path);
  if (extension == ".safetensors") return edge_circuit_from_tensors(path, options.kv_heads);
  const std::string text = read_text(path, kLargest);
  return named_errors(path, [&] {
    if (extension == ".graphml") return edge_circuit_from_graphml(text);
    if (extension == ".dot" || extension == ".gv") return edge_circuit_from_dot(text);
    return from_json(text, options);
  });
}

void write_circuit(const EdgeCircuit& circuit, const fs::path& path, CircuitFormat format,
                   const ViewWords& view) {
  if (format == CircuitFormat::hdf5) return report::write_circuit_archive(circuit, path);
  if (format == CircuitFormat::tensors) return write_tensors(circuit, path);
  const auto text = [&]() -> std::string {
    switch (format) {
      case CircuitFormat::eap_ig: return to_eap_ig(circuit);
      case CircuitFormat::graphml: return to_graphml(circuit);
      case CircuitFormat::dot: return to_dot(circuit);
      case CircuitFormat::neuronpedia: return to_neuronpedia(circuit, view);
      case CircuitFormat::edge_pruning: return to_edge_pruning(circuit);
      default: return to_json(circuit);
    }
  }();
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace plumb
