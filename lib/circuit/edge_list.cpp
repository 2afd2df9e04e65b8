// Edge circuits as Edge Pruning's list of edges (arXiv:2406.16778).
#include <fmt/format.h>

#include <iterator>

#include "checkpoint/json.h"
#include "checkpoint/printable.h"
#include "circuit/edge_nodes.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* kWhere = "Edge Pruning list";

std::string reader_name(const EdgeSpace& space, std::int64_t receiver) {
  std::string name = space.receiver_name(receiver);
  if (name == "logits") return "resid_post";
  const std::size_t mark = name.find('<');
  if (mark == std::string::npos) return name;
  return fmt::format("{}.{}", name.substr(0, mark), name[mark + 1]);
}

// "a3.h4.q" to "a3.h4<q>".
std::string our_reader(std::string name) {
  if (name == "resid_post") return "logits";
  const std::size_t dot = name.rfind('.');
  if (dot != std::string::npos && dot + 2 == name.size() && name[dot + 1] != 'h')
    return fmt::format("{}<{}>", name.substr(0, dot), name.back());
  return name;
}

}  // namespace

std::string to_edge_pruning(const EdgeCircuit& circuit) {
  const EdgeCircuit wide = ungrouped(circuit);
  const EdgeSpace& space = wide.space;
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  const char* between = "[";
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    if (!has(wide, edge)) continue;
    const auto [sender, receiver] = space.ends(edge);
    const std::string to = reader_name(space, receiver);
    if (sender > 0) {
      fmt::format_to(put, "{}[\"{}\", \"{}\"]", between, space.sender_name(sender), to);
    } else {
      fmt::format_to(put, "{0}[\"tok_embeds\", \"{1}\"], [\"pos_embeds\", \"{1}\"]", between, to);
    }
    between = ", ";
  }
  fmt::format_to(put, "{}]\n", count_edges(wide) == 0 ? "[" : "");
  return fmt::to_string(out);
}

EdgeCircuit edge_circuit_from_edge_pruning(std::string_view text, const EdgeSpace& space) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", kWhere, what));
  };
  const Json document = parse_json(text, kWhere, 2);
  if (!document.is_array()) refuse("should be a list of [writer, reader]");
  EdgeCircuit circuit =
      empty_circuit(EdgeSpace(space.layers(), space.heads(), space.heads(), space.parallel()));
  std::vector<std::uint8_t> met(circuit.in.size(), 0);  // 1 and 2: which embedding
  for (const Json& edge : document) {
    if (!edge.is_array() || edge.size() != 2 || !edge[0].is_string() || !edge[1].is_string())
      refuse("an entry is not [writer, reader]");
    const auto& from = edge[0].get_ref<const std::string&>();
    const auto& to = edge[1].get_ref<const std::string&>();
    // What a head reads to what it writes: no edge between components.
    if (from.size() == to.size() + 2 && from.starts_with(to) && from[to.size()] == '.') continue;
    const bool positions = from == "pos_embeds";
    const std::string sender = positions || from == "tok_embeds" ? "input" : from;
    const std::string name = sender + "->" + our_reader(to);
    const auto found = circuit.space.find_edge(name);
    if (!found || from == "input" || to == "logits")
      refuse(fmt::format("the model has no edge from {} to {}", printable(from), printable(to)));
    const auto place = static_cast<std::size_t>(*found);
    const std::uint8_t mark = positions ? 2 : 1;
    if ((met[place] & mark) != 0)
      refuse(fmt::format("the edge from {} to {} occurs twice", printable(from), printable(to)));
    met[place] |= mark;
    circuit.in[place] = 1;
  }
  return grouped(circuit, space.kv_heads());
}

}  // namespace plumb
