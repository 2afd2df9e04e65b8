// Edge circuits as plumb's own JSON.
#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <limits>

#include "checkpoint/json.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr int kDeepest = 3;  // document, list, edge
constexpr const char* kWhere = "circuit JSON";

void read_edges(const Fields& fields, const std::string& field, bool in, EdgeFiller& filler) {
  const Json& list = fields.raw(field);
  if (list.is_null()) return;
  if (!list.is_array()) fields.wrong(field, "a list of [name, score]");
  for (const Json& edge : list) {
    if (!edge.is_array() || edge.size() != 2 || !edge[0].is_string() || !edge[1].is_number())
      filler.refuse(fmt::format("an entry of \"{}\" is not [name, score]", field));
    filler.put(edge[0].get_ref<const std::string&>(), edge[1].get<double>(), in);
  }
}

}  // namespace

std::string to_json(const EdgeCircuit& circuit) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put,
                 "{{\"plumb_circuit\": 1, \"title\": {}, \"convention\": {}, \"graph\": "
                 "{{\"layers\": {}, \"heads\": {}, \"kv_heads\": {}, \"parallel\": {}, "
                 "\"d_model\": {}}}",
                 json_text(circuit.title), json_text(circuit.convention), space.layers(),
                 space.heads(), space.kv_heads(), space.parallel(), circuit.d_model);
  for (const bool in : {true, false}) {
    fmt::format_to(put, ", \"{}\": [", in ? "edges" : "others");
    const char* between = "";
    for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
      const double value = score(circuit, edge);
      if (has(circuit, edge) != in || (!in && value == 0.0 && !std::signbit(value))) continue;
      fmt::format_to(put, "{}[\"{}\", {}]", between, space.edge_name(edge), value);
      between = ", ";
    }
    fmt::format_to(put, "]");
  }
  fmt::format_to(put, "}}\n");
  return fmt::to_string(out);
}

EdgeCircuit edge_circuit_from_json(std::string_view text) {
  const Json document = parse_json(text, kWhere, kDeepest);
  const Fields fields(document, kWhere);
  for (const auto& [key, value] : document.items()) {
    if (key != "plumb_circuit" && key != "title" && key != "convention" && key != "graph" &&
        key != "edges" && key != "others")
      throw Error(ErrorKind::bad_file, fmt::format("{}: a field is unknown", kWhere));
  }
  if (fields.integer("plumb_circuit", 1, std::numeric_limits<std::int64_t>::max()) != 1)
    fields.unsupported("plumb_circuit", "and this version of plumb reads format 1");
  const Fields graph = fields.object("graph");
  constexpr std::int64_t most = 1 << 20;
  EdgeCircuit circuit = empty_circuit(claimed_space(
      graph.integer("layers", 1, most), graph.integer("heads", 1, most),
      graph.integer("kv_heads", 1, most), graph.flag("parallel", false), text.size(), kWhere));
  circuit.d_model = static_cast<int>(graph.integer("d_model", 0, 1 << 30, 0));
  circuit.title = fields.text("title", "");
  circuit.convention = fields.text("convention", "");
  EdgeFiller filler(circuit, kWhere);
  if (!fields.has("edges")) fields.wrong("edges", "a list of [name, score]");
  read_edges(fields, "edges", true, filler);
  read_edges(fields, "others", false, filler);
  return circuit;
}

}  // namespace plumb
