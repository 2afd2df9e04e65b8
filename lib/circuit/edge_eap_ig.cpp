// Edge circuits as EAP-IG's and MIB's JSON (hannamw/EAP-IG 795f560).
#include <fmt/format.h>

#include <iterator>

#include "checkpoint/json.h"
#include "checkpoint/printable.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr int kDeepest = 4;  // document, nodes, node, its list of neurons
constexpr const char* kWhere = "EAP-IG JSON";
constexpr std::int64_t kMost = 1 << 20;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", kWhere, what));
}

bool flag_of(const Json& object, const std::string& name) {
  const auto found = object.find("in_graph");
  if (found == object.end() || !found->is_boolean())
    refuse(fmt::format("{} has no \"in_graph\" that is true or false", printable(name)));
  return found->get<bool>();
}

void check_nodes(const Json& nodes, const EdgeSpace& space) {
  for (const auto& [name, node] : nodes.items()) {
    if (name == "logits") continue;
    if (!space.find_sender(name))
      refuse(fmt::format("the model has no component {}", printable(name)));
    if (!node.is_object()) refuse(fmt::format("component {} is no object", printable(name)));
    flag_of(node, name);
    const auto neurons = node.find("neurons");
    if (neurons == node.end()) continue;
    if (!neurons->is_array()) refuse(fmt::format("neurons of {} are no list", printable(name)));
    for (const Json& neuron : *neurons) {
      if (neuron.is_boolean() && neuron.get<bool>()) continue;
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: {} has neurons that are left out; a circuit of plumb has whole "
                              "components",
                              kWhere, printable(name)));
    }
  }
}

}  // namespace

std::string to_eap_ig(const EdgeCircuit& circuit) {
  const EdgeCircuit wide = ungrouped(circuit);
  const EdgeSpace& space = wide.space;
  const auto used = senders_in(wide);
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put,
                 "{{\"cfg\": {{\"n_layers\": {}, \"n_heads\": {}, \"parallel_attn_mlp\": {}, "
                 "\"d_model\": {}}}, \"plumb\": {{\"kv_heads\": {}, \"title\": {}, \"convention\": "
                 "{}}}, \"nodes\": {{",
                 space.layers(), space.heads(), space.parallel(), circuit.d_model,
                 circuit.space.kv_heads(), json_text(circuit.title), json_text(circuit.convention));
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    fmt::format_to(put, "\"{}\": {{\"in_graph\": {}}}, ", space.sender_name(sender),
                   used[static_cast<std::size_t>(sender)] != 0);
  }
  fmt::format_to(put, "\"logits\": {{\"in_graph\": true}}}}, \"edges\": {{");
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    fmt::format_to(put, "{}\"{}\": {{\"score\": {}, \"in_graph\": {}}}", edge == 0 ? "" : ", ",
                   space.edge_name(edge), score(wide, edge), has(wide, edge));
  }
  fmt::format_to(put, "}}}}\n");
  return fmt::to_string(out);
}

EdgeCircuit edge_circuit_from_eap_ig(std::string_view text, std::optional<int> kv_heads) {
  const Json document = parse_json(text, kWhere, kDeepest);
  const Fields fields(document, kWhere);
  const Fields cfg = fields.object("cfg");
  const std::int64_t layers = cfg.integer("n_layers", 1, kMost);
  const std::int64_t heads = cfg.integer("n_heads", 1, kMost);
  EdgeCircuit circuit = empty_circuit(claimed_space(
      layers, heads, heads, cfg.flag("parallel_attn_mlp", false), text.size(), kWhere));
  circuit.d_model = static_cast<int>(cfg.integer("d_model", 0, 1 << 30, 0));
  if (fields.has("plumb")) {
    const Fields words = fields.object("plumb");
    circuit.title = words.text("title", "");
    circuit.convention = words.text("convention", "");
    if (!kv_heads) kv_heads = static_cast<int>(words.integer("kv_heads", 1, kMost, heads));
  }
  check_nodes(fields.object("nodes").json(), circuit.space);
  EdgeFiller filler(circuit, kWhere);
  for (const auto& [name, edge] : fields.object("edges").json().items()) {
    const auto score = edge.find("score");
    if (!edge.is_object() || score == edge.end() || !score->is_number())
      refuse(fmt::format("edge {} has no \"score\" that is a number", printable(name)));
    filler.put(name, score->get<double>(), flag_of(edge, name));
  }
  if (!kv_heads) return circuit;
  if (heads % *kv_heads != 0)
    refuse(fmt::format("{} heads are no multiple of {} key heads", heads, *kv_heads));
  circuit = grouped(circuit, *kv_heads);
  try {
    check(circuit);  // sums can overflow
  } catch (const Error& error) {
    refuse(error.what());
  }
  return circuit;
}

}  // namespace plumb
