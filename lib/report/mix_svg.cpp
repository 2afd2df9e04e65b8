// The picture of `plumb mix`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "plumb/report.h"
#include "plumb/report_mix.h"

namespace plumb {
namespace {

// Pixels.
constexpr double left = 52;
constexpr double right = 90;
constexpr double above = 30;
constexpr double below = 40;
constexpr double widest = 760;
constexpr double row_height = 6;

// Decades of relative change that are told apart.
constexpr double smallest = 1e-3;
constexpr double largest = 1.0;

// As many as an eye tells apart: neighbours of one shade are one rectangle of the file.
constexpr double shades = 24;

// 0 is white, 1 dark red.
std::string colour(double share) {
  if (!std::isfinite(share)) return "#cccccc";
  const double part = std::round(std::clamp(share, 0.0, 1.0) * shades) / shades;
  const auto mix = [&](double end) { return std::lround(255.0 + part * (end - 255.0)); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(127), mix(20), mix(30));
}

double shade(double value) {
  if (!(value > 0.0)) return std::isnan(value) ? value : 0.0;
  return std::log(value / smallest) / std::log(largest / smallest);
}

std::string words(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     text);
}

// Rectangles of one shade are one path.
using Shapes = std::map<std::string, std::string>;

void add_rectangle(Shapes& shapes, const std::string& fill, double x, double y, double width,
                   double height) {
  if (fill != "#ffffff")
    shapes[fill] +=
        fmt::format("M{:.1f} {:.1f}h{:.1f}v{:.1f}h{:.1f}z", x, y, width, height, -width);
}

std::string drawn(const Shapes& shapes) {
  std::string text;
  for (const auto& [fill, path] : shapes)
    text += fmt::format("<path fill=\"{}\" d=\"{}\"/>\n", fill, path);
  return text;
}

// [entry, position], entries upwards from y + height.
std::string map_of(const at::Tensor& grid, double cell, double y) {
  const std::int64_t rows = grid.size(0);
  const std::int64_t columns = grid.size(1);
  const auto* values = grid.data_ptr<double>();
  Shapes shapes;
  for (std::int64_t l = 0; l < rows; ++l) {
    // Equal neighbours are one rectangle.
    for (std::int64_t t = 0; t < columns;) {
      const std::string fill = colour(shade(values[l * columns + t]));
      std::int64_t end = t + 1;
      while (end < columns && colour(shade(values[l * columns + end])) == fill) ++end;
      add_rectangle(shapes, fill, left + cell * static_cast<double>(t),
                    y + row_height * static_cast<double>(rows - 1 - l),
                    cell * static_cast<double>(end - t), row_height);
      t = end;
    }
  }
  return drawn(shapes);
}

// What the shades mean, from the largest down, with every power of ten.
std::string scale(double y, double height) {
  Shapes shapes;
  for (int i = 0; i <= static_cast<int>(shades); ++i) {
    const double share = 1.0 - i / shades;
    add_rectangle(shapes, colour(share), left + widest + 14.0, y + height * i / (shades + 1.0),
                  12.0, height / (shades + 1.0) + 0.5);
  }
  std::string text = drawn(shapes);
  const double decades = std::log10(largest / smallest);
  for (int i = 0; i <= static_cast<int>(std::lround(decades)); ++i) {
    text += words(left + widest + 30.0, y + 4.0 + height * i / decades, "start",
                  fmt::format("{:g}", largest * std::pow(10.0, -i)));
  }
  return text;
}

std::string panel(const MixState& state, double cell, double y) {
  const at::Tensor grid = state.relative.to(at::kDouble).contiguous();
  const std::int64_t rows = grid.size(0);
  const std::int64_t columns = grid.size(1);
  const double height = row_height * static_cast<double>(rows);
  const double top = y + above;
  std::string body =
      words(left, y + 20.0, "start",
            fmt::format("{}: spread {}, loss {}", state.name,
                        format_number(state.relative_spread.mean), format_number(state.loss.mean)));
  body += "<g shape-rendering=\"crispEdges\">\n" + map_of(grid, cell, top);
  body += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" "
      "stroke=\"#444444\"/>\n</g>\n",
      left, top, cell * static_cast<double>(columns), height);
  body += words(left - 6.0, top + height, "end", "0");
  body += words(left - 6.0, top + 9.0, "end", std::to_string(rows - 1));
  for (std::int64_t t = 0; t < columns; t += std::max<std::int64_t>(1, columns / 8)) {
    body += words(left + cell * (static_cast<double>(t) + 0.5), top + height + 14.0, "middle",
                  std::to_string(t));
  }
  return body + scale(top, height);
}

// Those that are named; all where none of them was measured.
std::vector<const MixState*> chosen(const MixReport& report,
                                    const std::vector<std::string>& conditions) {
  std::vector<const MixState*> states;
  for (const MixState& state : report.states) {
    if (std::ranges::find(conditions, state.name) != conditions.end()) states.push_back(&state);
  }
  if (!states.empty()) return states;
  for (const MixState& state : report.states) states.push_back(&state);
  return states;
}

}  // namespace

std::string mix_svg(const MixReport& report, const std::vector<std::string>& conditions) {
  std::string body;
  double y = 0.0;
  const double cell = widest / static_cast<double>(report.states.front().relative.size(1));
  for (const MixState* state : chosen(report, conditions)) {
    body += panel(*state, cell, y);
    y += above + row_height * static_cast<double>(state->relative.size(0)) + below;
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 "
      "0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{2}</svg>\n",
      left + widest + right, y, body);
}

}  // namespace plumb
