// The circuit as an inline drawing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "plumb/report.h"
#include "report/graph_layout.h"
#include "report/html_sections.h"
#include "report/html_text.h"

namespace plumb::report {
namespace {

constexpr std::size_t most_edges = 400;
constexpr double widest_stroke = 7.0;
constexpr double slimmest_stroke = 1.2;
constexpr double tip = 8.0;

std::string shape_of(const CircuitNode& node, const PlacedNode& at) {
  const double w = at.width / 2;
  const double h = at.height / 2;
  const auto polygon = [&](double top, double middle, double bottom) {
    return fmt::format(
        "<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} "
        "{:.1f}L{:.1f} {:.1f}Z\"/>",
        -top, -h, top, -h, middle, 0.0, bottom, h, -bottom, h, -middle, 0.0);
  };
  if (node.kind == "mlp" || node.kind == "expert") return polygon(w - 10, w, w - 10);
  if (node.kind == "sink") return polygon(w, w - 7, w - 14);
  if (node.kind == "logits") return polygon(w - 14, w - 7, w);
  if (node.kind == "or") return fmt::format("<circle r=\"{:.1f}\"/>", h);
  const double round = node.kind == "input" || node.kind == "neuron" ? h : 4.0;
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "rx=\"{:.1f}\"/>",
      -w, -h, at.width, at.height, round);
}

std::string notes_of(const CircuitNode& node) {
  std::string text;
  for (const auto& [key, value] : node.notes) text += fmt::format("; {}: {}", key, value);
  return text;
}

std::string number(double value) { return format_number(value); }

std::string path_of(const PlacedEdge& edge) {
  const auto& points = edge.points;
  std::string path = fmt::format("M{:.1f} {:.1f}", points.front().first, points.front().second);
  for (std::size_t i = 1; i < points.size(); ++i) {
    const auto& [x0, y0] = points[i - 1];
    const auto& [x1, y1] = points[i];
    if (std::abs(x1 - x0) < 0.05) {
      // Of a long straight run one line is enough.
      const bool goes_on = i + 1 < points.size() && std::abs(points[i + 1].first - x1) < 0.05;
      if (!goes_on) path += fmt::format("V{:.1f}", y1);
      continue;
    }
    const double middle = (y0 + y1) / 2;
    path +=
        fmt::format("C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}", x0, middle, x1, middle, x1, y1);
  }
  return path;
}

std::string class_of(const CircuitEdge& edge) {
  std::string name = "edge";
  if (edge.kind == "eraser") return name + " eraser";
  if (edge.kind == "or") name += " or";
  if (edge.kind == "q" || edge.kind == "k" || edge.kind == "v") name += " reads-" + edge.kind;
  return edge.score < 0 ? name + " against" : name;
}

std::string bounds_of(const CircuitEdge& edge) {
  if (!edge.interval) return "";
  return fmt::format(" [{}, {}]", number(edge.interval->low), number(edge.interval->high));
}

std::string kind_of(const CircuitEdge& edge) {
  if (edge.kind == "or") return ", one of alternatives";
  if (edge.kind == "q") return ", read as query";
  if (edge.kind == "k") return ", read as key";
  if (edge.kind == "v") return ", read as value";
  return edge.kind.empty() ? "" : ", " + edge.kind;
}

// A tip for what raises the read-out, a bar for what lowers it.
std::string end_of(const PlacedEdge& edge, bool against, double stroke) {
  const auto& [x, y] = edge.points.back();
  const double back =
      edge.points.back().second >= edge.points[edge.points.size() - 2].second ? -1 : 1;
  const double size = tip + stroke / 2;
  if (against) {
    return fmt::format("<path class=\"bar\" d=\"M{:.1f} {:.1f}h{:.1f}\"/>", x - size / 1.5,
                       y + 1.5 * back, 2 * size / 1.5);
  }
  return fmt::format("<path class=\"tip\" d=\"M{:.1f} {:.1f}l{:.1f} {:.1f}h{:.1f}Z\"/>", x, y,
                     -size / 2, size * back, size);
}

}  // namespace

std::string graph_svg(const Circuit& circuit) {
  const GraphLayout layout = lay_out(circuit);
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) index[circuit.nodes[i].name] = i;
  double most = 0;
  for (const CircuitEdge& edge : circuit.edges) most = std::max(most, std::abs(edge.score));
  if (!(most > 0)) most = 1;
  std::string svg = fmt::format(
      "<svg id=\"graph\" viewBox=\"0 0 {0:.0f} {1:.0f}\" data-width=\"{0:.0f}\" "
      "data-height=\"{1:.0f}\" role=\"group\" aria-label=\"Circuit, from the input down\">\n",
      std::max(layout.width, 1.0), std::max(layout.height, 1.0));
  for (std::size_t r = 0; r < layout.rows.size(); ++r) {
    if (layout.rows[r].empty()) continue;
    svg += fmt::format("<text class=\"row\" x=\"6\" y=\"{:.1f}\">{}</text>\n", layout.row_y[r] + 4,
                       html(layout.rows[r]));
  }
  for (std::size_t i = 0; i < circuit.edges.size(); ++i) {
    const CircuitEdge& edge = circuit.edges[i];
    const std::string path = path_of(layout.edges[i]);
    const double stroke =
        slimmest_stroke + (widest_stroke - slimmest_stroke) * std::abs(edge.score) / most;
    const std::string words = html(fmt::format("{} → {}: {}{}{}", edge.from, edge.to,
                                               number(edge.score), bounds_of(edge), kind_of(edge)),
                                   600);
    svg += fmt::format(
        "<g class=\"{}\" data-from=\"{}\" data-to=\"{}\" data-words=\"{}\"><title>{}</title><path "
        "class=\"hit\" d=\"{}\"/><path class=\"line\" d=\"{}\" stroke-width=\"{:.1f}\"/>{}</g>\n",
        class_of(edge), index.at(edge.from), index.at(edge.to), words, words, path, path, stroke,
        end_of(layout.edges[i], edge.score < 0 || edge.kind == "eraser", stroke));
  }
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) {
    const CircuitNode& node = circuit.nodes[i];
    const PlacedNode& at = layout.nodes[i];
    const std::string words = html(fmt::format("{} ({}), score {}{}", node.name, node.kind,
                                               number(node.score), notes_of(node)),
                                   1000);
    svg += fmt::format(
        "<g class=\"node {}\" data-node=\"{}\" data-words=\"{}\" tabindex=\"0\" role=\"img\" "
        "aria-label=\"{}\" transform=\"translate({:.1f} {:.1f})\"><title>{}</title>{}<text "
        "class=\"name\" y=\"-2\">{}</text><text class=\"score\" y=\"12\">{}</text></g>\n",
        html(node.kind, 20), i, words, words, at.x, at.y, words, shape_of(node, at),
        node.kind == "or" ? "OR" : html(node.name, 40), number(node.score));
  }
  return svg + "</svg>\n";
}

std::string circuit_section(const ArchiveView& view, RowBudget& budget) {
  if (!view.located) {
    return section("circuit", "Circuit", absent("plumb sink looks for no circuit; plumb p0 does."));
  }
  if (!view.circuit || view.circuit->nodes.empty()) {
    return section(
        "circuit", "Circuit",
        absent(view.complete ? "There is no circuit in the archive: none was found."
                             : "There is no circuit in the archive: the job ended before "
                               "it was drawn up."));
  }
  const Circuit& whole = *view.circuit;
  const Circuit shown = strongest_part(whole, most_edges);
  std::string body;
  if (!whole.convention.empty())
    body += fmt::format("<p>Scores: {}.</p>\n", html(whole.convention, 2000));
  if (shown.edges.size() < whole.edges.size() || shown.nodes.size() < whole.nodes.size()) {
    body += absent(fmt::format("The {} strongest of {} edges are drawn, and {} of {} nodes.",
                               shown.edges.size(), whole.edges.size(), shown.nodes.size(),
                               whole.nodes.size()));
  }
  body +=
      "<div class=\"controls\"><button type=\"button\" id=\"zoom-in\">Zoom in</button> <button "
      "type=\"button\" id=\"zoom-out\">Zoom out</button> <button type=\"button\" "
      "id=\"zoom-fit\">Fit</button> <button type=\"button\" id=\"zoom-width\">Fit "
      "width</button></div>\n"
      "<div id=\"graph-frame\" tabindex=\"0\" role=\"application\" aria-label=\"Drawing of the "
      "circuit. "
      "Arrow keys move it, plus and minus zoom, 0 fits it; Tab goes from node to node.\">\n" +
      graph_svg(shown) +
      "</div>\n<output id=\"graph-said\" class=\"said\" aria-live=\"polite\">Point at a node or an "
      "edge "
      "for its score. Drag to move; Ctrl and the wheel, or the buttons, to zoom.</output>\n"
      "<p class=\"legend\"><span class=\"node attention\">▭ attention</span> <span class=\"node "
      "mlp\">⬡ MLP</span> <span class=\"node neuron\">⬭ neuron</span> <span class=\"node sink\">⏢ "
      "sink</span> <span class=\"node input\">⬭ input</span> · width of a line: size of the score "
      "· "
      "dashed, ending in a bar: erases · ending in a bar: works against it · dotted into an OR: "
      "any "
      "one of the alternatives suffices</p>\n";
  std::vector<std::vector<std::string>> rows;
  for (const CircuitEdge& edge : shown.edges) {
    rows.push_back({html(edge.from, 100), html(edge.to, 100), number(edge.score), bounds_of(edge),
                    html(edge.kind.empty() ? "" : edge.kind, 20)});
  }
  RowBudget edges{.left = most_edges};
  body += fmt::format("<details><summary>The {} edges as a table</summary>\n{}</details>\n",
                      shown.edges.size(),
                      html_table({"<from", "<to", "score", "95 %", "<kind"}, rows, edges));
  return section("circuit", "Circuit", body + paths_part(view, budget));
}

}  // namespace plumb::report
