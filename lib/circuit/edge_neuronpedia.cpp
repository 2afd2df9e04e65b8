// Edge circuits as Neuronpedia's attribution graphs (its JSON schema "Anthropic Attribution
// Graph").
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>

#include "checkpoint/json.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"
#include "plumb/version.h"

namespace plumb {
namespace {

constexpr int kDeepest = 5;
constexpr const char* kWhere = "Neuronpedia JSON";
constexpr std::int64_t kMost = 1 << 20;

std::string id_of(const std::string& name, std::size_t position) {
  return fmt::format("plumb_{}_{}", name, position);
}

}  // namespace

std::string to_neuronpedia(const EdgeCircuit& circuit, const ViewWords& view) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  const auto used = senders_in(circuit);
  const std::size_t at = view.prompt_tokens.empty() ? 0 : view.prompt_tokens.size() - 1;
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put,
                 "{{\"metadata\": {{\"slug\": {}, \"scan\": {}, \"prompt\": {}, "
                 "\"prompt_tokens\": [",
                 json_text(view.slug), json_text(view.scan), json_text(view.prompt));
  const char* between = "";
  for (const std::string& token : view.prompt_tokens) {
    fmt::format_to(put, "{}{}", between, json_text(token));
    between = ", ";
  }
  fmt::format_to(put,
                 "], \"info\": {{\"description\": {}, \"generator\": {{\"name\": \"plumb\", "
                 "\"version\": {}}}}}, \"generation_settings\": {{\"title\": {}, \"convention\": "
                 "{}, \"layers\": {}, \"heads\": {}, \"kv_heads\": {}, \"parallel\": {}, "
                 "\"d_model\": {}}}}}, \"qParams\": {{\"linkType\": \"both\"}}, \"nodes\": [",
                 json_text(circuit.convention), json_text(version()), json_text(circuit.title),
                 json_text(circuit.convention), space.layers(), space.heads(), space.kv_heads(),
                 space.parallel(), circuit.d_model);
  between = "";
  for (std::int64_t sender = 0; sender <= space.senders(); ++sender) {
    const bool logits = sender == space.senders();
    if (!logits && used[static_cast<std::size_t>(sender)] == 0) continue;
    const EdgeSender writer = logits ? EdgeSender{} : space.sender(sender);
    const std::string name = logits ? "logits" : space.sender_name(sender);
    const bool input = !logits && writer.kind == EdgeSender::Kind::input;
    fmt::format_to(put,
                   "{}{{\"node_id\": \"{}\", \"feature\": {}, \"layer\": \"{}\", \"ctx_idx\": {}, "
                   "\"feature_type\": \"{}\", \"jsNodeId\": \"{}-0\", \"clerp\": \"{}\"}}",
                   between, id_of(name, at),
                   writer.kind == EdgeSender::Kind::head ? std::to_string(writer.head) : "null",
                   input    ? "E"
                   : logits ? std::to_string(space.layers())
                            : std::to_string(writer.layer),
                   at,
                   input                                  ? "embedding"
                   : logits                               ? "logit"
                   : writer.kind == EdgeSender::Kind::mlp ? "plumb mlp"
                                                          : "plumb attention head",
                   id_of(name, at), name);
    between = ", ";
  }
  fmt::format_to(put, "], \"links\": [");
  between = "";
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    if (!has(circuit, edge)) continue;
    const auto [sender, receiver] = space.ends(edge);
    auto [first, last] = fed_by(space, receiver);
    // The head of the group that goes on; the link's own words say what is read.
    std::int64_t target = first;
    while (target < last && used[static_cast<std::size_t>(target)] == 0) ++target;
    const std::string to =
        first == last ? "logits" : space.sender_name(target < last ? target : first);
    fmt::format_to(put,
                   "{}{{\"source\": \"{}\", \"target\": \"{}\", \"weight\": {}, \"plumb_edge\": "
                   "\"{}\"}}",
                   between, id_of(space.sender_name(sender), at), id_of(to, at),
                   score(circuit, edge), space.edge_name(edge));
    between = ", ";
  }
  fmt::format_to(put, "]}}\n");
  return fmt::to_string(out);
}

EdgeCircuit edge_circuit_from_neuronpedia(std::string_view text) {
  const Json document = parse_json(text, kWhere, kDeepest);
  const Fields fields(document, kWhere);
  const Fields settings = fields.object("metadata").object("generation_settings");
  EdgeCircuit circuit = empty_circuit(
      claimed_space(settings.integer("layers", 1, kMost), settings.integer("heads", 1, kMost),
                    settings.integer("kv_heads", 1, kMost), settings.flag("parallel", false),
                    text.size(), kWhere));
  circuit.d_model = static_cast<int>(settings.integer("d_model", 0, 1 << 30, 0));
  circuit.title = settings.text("title", "");
  circuit.convention = settings.text("convention", "");
  EdgeFiller filler(circuit, kWhere);
  const Json& links = fields.raw("links");
  if (!links.is_array()) fields.wrong("links", "a list");
  for (const Json& link : links) {
    const Fields each(link, "Neuronpedia JSON: a link");
    constexpr double any = std::numeric_limits<double>::max();
    filler.put(each.text("plumb_edge"), each.number("weight", -any, any), true);
  }
  return circuit;
}

}  // namespace plumb
