// Edge circuits as GraphML. Boost's reader of it parses XML by recursion, which a hostile file
// could drive to the end of the stack; tags are read one by one here instead.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <iterator>
#include <map>

#include "checkpoint/printable.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "circuit/xml_reader.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* kWhere = "GraphML";

struct Key {
  const char* id;
  const char* of;
  const char* name;
  const char* type;
};
constexpr std::array<Key, 14> kKeys = {{{"layers", "graph", "layers", "int"},
                                        {"heads", "graph", "heads", "int"},
                                        {"kv_heads", "graph", "kv_heads", "int"},
                                        {"parallel", "graph", "parallel", "boolean"},
                                        {"d_model", "graph", "d_model", "int"},
                                        {"title", "graph", "title", "string"},
                                        {"convention", "graph", "convention", "string"},
                                        {"kind", "node", "kind", "string"},
                                        {"layer", "node", "layer", "int"},
                                        {"head", "node", "head", "int"},
                                        {"receiver", "edge", "receiver", "string"},
                                        {"qkv", "edge", "qkv", "string"},
                                        {"score", "edge", "score", "double"},
                                        {"in_graph", "edge", "in_graph", "boolean"}}};

std::string to_node(const EdgeSpace& space, std::int64_t receiver) {
  const auto [from, to] = fed_by(space, receiver);
  return from == to ? "logits" : space.sender_name(from);
}

bool truth(const XmlReader& reader, const std::string& text) {
  if (text == "true" || text == "True" || text == "1") return true;
  if (text == "false" || text == "False" || text == "0") return false;
  reader.refuse(fmt::format("{} is neither true nor false", printable(text)));
}

template <typename Number>
Number number_of(const XmlReader& reader, const std::string& text) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    reader.refuse(fmt::format("{} is no number", printable(text)));
  return value;
}

// The data of one graph, node or edge, by the names of their keys.
using Data = std::map<std::string, std::string>;

const std::string& needed(const XmlReader& reader, const Data& data, const std::string& name) {
  const auto found = data.find(name);
  if (found == data.end()) reader.refuse(fmt::format("there is no \"{}\"", name));
  return found->second;
}

}  // namespace

std::string to_graphml(const EdgeCircuit& circuit) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put,
                 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n");
  for (const Key& key : kKeys) {
    fmt::format_to(put, "  <key id=\"{}\" for=\"{}\" attr.name=\"{}\" attr.type=\"{}\"/>\n", key.id,
                   key.of, key.name, key.type);
  }
  fmt::format_to(put, "  <graph id=\"circuit\" edgedefault=\"directed\">\n");
  const auto data = [&](const char* key, const auto& value) {
    fmt::format_to(put, "<data key=\"{}\">{}</data>", key, value);
  };
  data("layers", space.layers());
  data("heads", space.heads());
  data("kv_heads", space.kv_heads());
  data("parallel", space.parallel());
  data("d_model", circuit.d_model);
  data("title", xml_text(circuit.title));
  data("convention", xml_text(circuit.convention));
  fmt::format_to(put, "\n");
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    const EdgeSender writer = space.sender(sender);
    fmt::format_to(put, "    <node id=\"{}\">", space.sender_name(sender));
    data("kind", writer.kind == EdgeSender::Kind::input ? "input"
                 : writer.kind == EdgeSender::Kind::mlp ? "mlp"
                                                        : "head");
    data("layer", writer.layer);
    if (writer.head >= 0) data("head", writer.head);
    fmt::format_to(put, "</node>\n");
  }
  fmt::format_to(put, "    <node id=\"logits\">");
  data("kind", "logits");
  data("layer", space.layers());
  fmt::format_to(put, "</node>\n");
  for (std::int64_t edge = 0; edge < space.edges(); ++edge) {
    if (!has(circuit, edge) && score(circuit, edge) == 0.0) continue;
    const auto [sender, receiver] = space.ends(edge);
    fmt::format_to(put, "    <edge id=\"e{}\" source=\"{}\" target=\"{}\">", edge,
                   space.sender_name(sender), to_node(space, receiver));
    const std::string reader = space.receiver_name(receiver);
    data("receiver", xml_text(reader));
    if (reader.back() == '>') data("qkv", reader[reader.size() - 2]);
    data("score", score(circuit, edge));
    data("in_graph", has(circuit, edge));
    fmt::format_to(put, "</edge>\n");
  }
  fmt::format_to(put, "  </graph>\n</graphml>\n");
  return fmt::to_string(out);
}

EdgeCircuit edge_circuit_from_graphml(std::string_view text) {
  XmlReader reader(text, kWhere);
  std::map<std::string, std::string> names;  // of keys, by id
  Data of_graph;
  Data of_item;
  std::map<std::string, std::string> item;  // the attributes of the node or edge being read
  std::string inside;
  bool ended = false;
  struct Edge {
    std::string name;
    double score;
    bool in;
  };
  std::vector<Edge> edges;
  for (XmlReader::Tag tag = reader.next(); !tag.name.empty(); tag = reader.next()) {
    if (ended) reader.refuse("something behind the end");
    if (tag.name == "key" && !tag.closes) {
      if (!tag.attributes.contains("id") || !tag.attributes.contains("attr.name"))
        reader.refuse("a key without id or attr.name");
      names[tag.attributes["id"]] = tag.attributes["attr.name"];
    } else if (tag.name == "data" && !tag.closes) {
      const auto name = names.find(tag.attributes["key"]);
      if (name == names.end()) reader.refuse("data of a key that was not declared");
      Data& into = inside.empty() ? of_graph : of_item;
      if (!into.emplace(name->second, tag.text).second)
        reader.refuse(fmt::format("{} is given twice", printable(name->second)));
    } else if ((tag.name == "node" || tag.name == "edge") && !tag.closes) {
      if (!inside.empty()) reader.refuse("a node or edge inside another");
      of_item.clear();
      if (!tag.empty) inside = tag.name;
      item = tag.attributes;
      if (tag.empty && tag.name == "edge") reader.refuse("an edge without data");
    } else if ((tag.name == "node" || tag.name == "edge") && tag.closes) {
      if (inside != tag.name) reader.refuse("tags that do not match");
      inside.clear();
      if (tag.name == "node") continue;
      edges.push_back({item["source"] + "->" + needed(reader, of_item, "receiver"),
                       number_of<double>(reader, needed(reader, of_item, "score")),
                       truth(reader, needed(reader, of_item, "in_graph"))});
    } else if (tag.name == "graphml" && tag.closes) {
      ended = true;
    }
  }
  if (!ended) reader.refuse("the text ends before the graph does");
  const auto size = [&](const char* name) {
    const auto value = number_of<std::int64_t>(reader, needed(reader, of_graph, name));
    if (value < 0 || value > 1 << 30) reader.refuse(fmt::format("{} cannot be {}", name, value));
    return value;
  };
  EdgeCircuit circuit = empty_circuit(
      claimed_space(size("layers"), size("heads"), size("kv_heads"),
                    truth(reader, needed(reader, of_graph, "parallel")), text.size(), kWhere));
  circuit.d_model = static_cast<int>(size("d_model"));
  circuit.title = of_graph["title"];
  circuit.convention = of_graph["convention"];
  EdgeFiller filler(circuit, kWhere);
  for (const Edge& edge : edges) filler.put(edge.name, edge.score, edge.in);
  return circuit;
}

}  // namespace plumb
