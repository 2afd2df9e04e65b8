#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "checkpoint/utf8.h"
#include "circuit/graph.h"
#include "plumb/circuit.h"

namespace plumb {
namespace {

// More edges than this are drawn without numbers on them and half transparent.
constexpr std::size_t kMostLabelled = 40;

// Kinds differ by colour (Okabe and Ito's palette, safe for colour-blind readers) and by shape.
struct Style {
  std::string_view kind;
  std::string_view words;
  std::string_view fill;
  std::string_view shape;
};
constexpr std::array<Style, 9> kStyles = {{
    {"input", "input", "#D9D9D9", "oval"},
    {"attention", "attention block", "#56B4E9", "box"},
    {"head", "attention head", "#A9DAF4", "box"},
    {"mlp", "MLP", "#E69F00", "hexagon"},
    {"neuron", "neuron", "#F0E442", "ellipse"},
    {"expert", "expert", "#F2C879", "octagon"},
    {"or", "any one suffices", "#FFFFFF", "circle"},
    {"sink", "sink", "#5FBFA0", "invtrapezium"},
    {"logits", "logits", "#CC9BB8", "trapezium"},
}};
constexpr std::string_view kFor = "#444444";
constexpr std::string_view kAgainst = "#0072B2";
constexpr std::string_view kErases = "#D5000F";
// What a head reads along an edge, in the colours that EAP-IG gives them, darker.
struct Reading {
  std::string_view kind;
  std::string_view words;
  std::string_view colour;
};
constexpr std::array<Reading, 3> kReadings = {{{"q", "read as query", "#C000C0"},
                                               {"k", "read as key", "#008A00"},
                                               {"v", "read as value", "#2020E0"}}};
const Reading* reading_of(const CircuitEdge& edge) {
  const auto* const found = std::find_if(kReadings.begin(), kReadings.end(),
                                         [&](const Reading& r) { return r.kind == edge.kind; });
  return found == kReadings.end() ? nullptr : found;
}

// With a mark in place of what is no UTF-8.
std::string cleaned(std::string_view text) {
  std::string clean;
  for_each_utf8_stretch(text, [&](std::string_view part, bool well_formed) {
    clean += well_formed ? part : std::string_view("\uFFFD");
  });
  return clean;
}

// A quoted DOT string. Graphviz resolves backslashes and HTML entities inside its own attributes.
std::string quoted(std::string_view text, bool shown) {
  std::string out = "\"";
  for (const char c : cleaned(text)) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '&' && shown) {
      out += "&amp;";
    } else if (c == '\n') {
      out += shown ? "\\n" : "\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += ' ';
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string shown(std::string_view text) { return quoted(text, true); }
std::string kept(std::string_view text) { return quoted(text, false); }

std::string markup(std::string_view text) {
  std::string out;
  for (const char c : cleaned(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// Breaks a sentence at spaces so that it does not stretch the legend.
std::vector<std::string> wrapped(std::string_view text) {
  constexpr std::size_t kWidth = 44;
  std::vector<std::string> lines(1);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (!lines.back().empty() && lines.back().size() + word.size() > kWidth) lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
    begin = end + 1;
  }
  return lines;
}

std::string tooltip(const CircuitNode& node) {
  std::string text = fmt::format("{} ({})\nscore {:.6g}", node.name, node.kind, node.score);
  for (const auto& [key, value] : node.notes) text += fmt::format("\n{}: {}", key, value);
  return text;
}

void write_node(std::string& out, const CircuitNode& node) {
  const auto style = std::find_if(kStyles.begin(), kStyles.end(),
                                  [&](const Style& each) { return each.kind == node.kind; });
  std::string label = is_junction(node) ? "OR" : node.name;
  if (node.score != 0.0) label += fmt::format("\n{:.3g}", node.score);
  // Where few neurons carry an MLP they are named on it.
  if (const auto neurons = node.notes.find("neurons"); neurons != node.notes.end())
    label += "\n" + neurons->second;
  out += fmt::format(
      "  {} [label={} shape={} style={} fillcolor=\"{}\" tooltip={} plumb_kind={} plumb_layer={} "
      "plumb_score=\"{}\"",
      kept(node.name), shown(label), style->shape,
      node.kind == "head" ? "\"filled,rounded\"" : "filled", style->fill, shown(tooltip(node)),
      kept(node.kind), node.layer, node.score);
  // The corners of these shapes need room of their own.
  if (is_read_out(node) || node.kind == "mlp" || node.kind == "expert") out += " margin=\"0,0.02\"";
  for (const auto& [key, value] : node.notes) {
    out += fmt::format(" {}={}", kept("plumb_note_" + key), kept(value));
  }
  out += "];\n";
}

void write_edge(std::string& out, const CircuitEdge& edge, double largest, bool many,
                bool backwards) {
  const double share = largest > 0 ? std::abs(edge.score) / largest : 0.0;
  const bool erases = edge.kind == "eraser";
  const Reading* const reading = reading_of(edge);
  const std::string_view colour = erases               ? kErases
                                  : reading != nullptr ? reading->colour
                                  : edge.score < 0     ? kAgainst
                                                       : kFor;
  // Where there are many, the weak ones step back.
  const int opacity = many ? 120 + static_cast<int>(135.0 * share) : 255;
  const std::string bounds =
      edge.interval ? fmt::format(" [{:.6g}, {:.6g}]", edge.interval->low, edge.interval->high)
                    : "";
  const std::string tip = fmt::format("{} -> {}\nscore {:.6g}{}{}{}", edge.from, edge.to,
                                      edge.score, bounds, edge.kind.empty() ? "" : "\n", edge.kind);
  out += fmt::format("  {} -> {} [color=\"{}{:02X}\" penwidth={:.2f} arrowhead={}", kept(edge.from),
                     kept(edge.to), colour, opacity, 0.7 + 4.3 * share,
                     edge.score < 0 || erases ? "tee" : "normal");
  if (!edge.kind.empty() && reading == nullptr)
    out += fmt::format(" style={}", erases ? "dashed" : "dotted");
  if (backwards) out += " constraint=false";
  if (!many && edge.score != 0.0) {
    out += fmt::format(" label=\" {:.2g} \" fontcolor=\"{}\"", edge.score, colour);
  }
  out += fmt::format(
      " tooltip={0} labeltooltip={0} edgetooltip={0} plumb_kind={1} plumb_score=\"{2}\"",
      shown(tip), kept(edge.kind), edge.score);
  if (edge.interval) {
    out +=
        fmt::format(" plumb_low=\"{}\" plumb_high=\"{}\"", edge.interval->low, edge.interval->high);
  }
  out += "];\n";
}

// Nodes that stand in one column: the attention or the MLP half of a layer, its read-outs, or the
// junctions after it.
struct Column {
  std::string heading;
  std::vector<const CircuitNode*> nodes = {};
};

std::map<long, Column> columns_of(const Circuit& circuit) {
  std::map<long, Column> columns;
  for (const CircuitNode& node : circuit.nodes) {
    const bool second = node.kind == "mlp" || node.kind == "neuron" || node.kind == "expert";
    const long place = is_source(node) ? -1
                                       : 4L * node.layer + (is_read_out(node)   ? 0
                                                            : is_junction(node) ? 3
                                                            : second            ? 2
                                                                                : 1);
    columns[place].nodes.push_back(&node);
  }
  int headed = -1;
  for (auto& [place, column] : columns) {
    const CircuitNode& node = *column.nodes.front();
    if (node.layer == headed || node.kind == "logits") continue;
    headed = node.layer;
    if (!is_source(node)) column.heading = fmt::format("layer {}", node.layer);
  }
  return columns;
}

void write_legend(std::string& out, const Circuit& circuit, const std::map<long, Column>& columns) {
  std::string rows;
  for (const Style& style : kStyles) {
    const bool used = std::any_of(circuit.nodes.begin(), circuit.nodes.end(),
                                  [&](const CircuitNode& node) { return node.kind == style.kind; });
    if (!used) continue;
    rows += fmt::format("<tr><td bgcolor=\"{}\">      </td><td align=\"left\">{}</td></tr>",
                        style.fill, style.words);
  }
  const auto line = [&](bool used, std::string_view colour, std::string_view sign,
                        std::string_view words) {
    if (!used) return;
    rows += fmt::format(
        "<tr><td><font color=\"{}\"><b>{}</b></font></td><td align=\"left\">{}</td></tr>", colour,
        sign, words);
  };
  const auto any = [&](auto condition) {
    return std::any_of(circuit.edges.begin(), circuit.edges.end(), condition);
  };
  for (const Reading& reading : kReadings) {
    line(any([&](const CircuitEdge& e) { return e.kind == reading.kind; }), reading.colour, "——",
         reading.words);
  }
  line(any([](const CircuitEdge& e) { return e.kind != "eraser" && e.score >= 0; }), kFor, "—▸",
       "works for the read-out");
  line(any([](const CircuitEdge& e) { return e.kind != "eraser" && e.score < 0; }), kAgainst, "—|",
       "works against the read-out");
  line(any([](const CircuitEdge& e) { return e.kind == "eraser"; }), kErases, "- - |", "eraser");
  line(any([](const CircuitEdge& e) { return e.kind == "or"; }), kFor, "· · ▸",
       "alternatives: any one suffices");
  rows += "<tr><td colspan=\"2\" align=\"left\">numbers: scores; line width: their size</td></tr>";
  if (!circuit.convention.empty()) {
    // A row for each line: breaks within one lie too close where the font is a substitute.
    for (const std::string& part : wrapped(cleaned(circuit.convention))) {
      rows +=
          fmt::format("<tr><td colspan=\"2\" align=\"left\" cellpadding=\"0\"><i>{}</i></td></tr>",
                      markup(part));
    }
  }
  out += fmt::format(
      "  \"plumb legend\" [shape=plain fontsize=10 tooltip=\"legend\" label=<<table border=\"1\" "
      "color=\"#AAAAAA\" style=\"rounded\" cellborder=\"0\" cellspacing=\"3\">{}</table>>];\n",
      rows);
  // In the first column, below everything there, it takes no height of its own.
  if (columns.empty()) return;
  const Column& first = columns.begin()->second;
  const std::string above = kept(first.nodes.back()->name);
  out += fmt::format(
      "  {{ rank=same; {0}; \"plumb legend\"; }}\n  {0} -> \"plumb legend\" [style=invis];\n",
      above);
}

}  // namespace

std::string to_dot(const Circuit& circuit) {
  check(circuit);
  double largest = 0.0;
  for (const CircuitEdge& edge : circuit.edges) largest = std::max(largest, std::abs(edge.score));
  const bool many = circuit.edges.size() > kMostLabelled;
  std::string out = fmt::format(
      "digraph circuit {{\n"
      "  graph [label={} labelloc=t fontsize=18 rankdir=LR newrank=true nodesep={} ranksep={} "
      "fontname=\"Helvetica,Arial,sans-serif\" bgcolor=white outputorder=edgesfirst "
      "plumb_title={} plumb_convention={}];\n"
      "  node [fontname=\"Helvetica,Arial,sans-serif\" fontsize=12 margin=\"0.12,0.06\" "
      "height=0.4];\n"
      "  edge [fontname=\"Helvetica,Arial,sans-serif\" fontsize=10 arrowsize=0.7];\n",
      shown(circuit.title), many ? "0.15" : "0.3", many ? "0.7" : "0.45", kept(circuit.title),
      kept(circuit.convention));
  int spine = 0;
  const std::map<long, Column> columns = columns_of(circuit);
  for (const auto& [place, column] : columns) {
    for (const CircuitNode* node : column.nodes) write_node(out, *node);
    out += fmt::format(
        "  \"plumb column {0}\" [label=\"{1}\" shape=plaintext fontsize=11 fontcolor=\"#666666\" "
        "tooltip=\"{1}\"];\n  {{ rank=same; \"plumb column {0}\";",
        spine, column.heading);
    for (const CircuitNode* node : column.nodes) out += fmt::format(" {};", kept(node->name));
    out += " }\n";
    if (spine > 0) {
      out += fmt::format("  \"plumb column {}\" -> \"plumb column {}\" [style=invis weight=100];\n",
                         spine - 1, spine);
    }
    ++spine;
  }
  const auto index = index_of(circuit);
  for (const CircuitEdge& edge : circuit.edges) {
    const CircuitNode& from = circuit.nodes[index.at(edge.from)];
    const CircuitNode& to = circuit.nodes[index.at(edge.to)];
    write_edge(out, edge, largest, many, rank_of(from) >= rank_of(to));
  }
  write_legend(out, circuit, columns);
  return out + "}\n";
}

}  // namespace plumb
