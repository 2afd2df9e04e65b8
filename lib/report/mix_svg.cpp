// The picture of `plumb mix`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

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

}  // namespace

std::string mix_svg(const MixReport& report) {
  std::string body;
  double y = 0.0;
  const std::int64_t most = report.states.front().relative.size(1);
  const double cell = widest / static_cast<double>(most);
  for (const MixState& state : report.states) {
    const at::Tensor grid = state.relative.to(at::kDouble).contiguous();
    const std::int64_t rows = grid.size(0);
    const std::int64_t columns = grid.size(1);
    const double height = row_height * static_cast<double>(rows);
    body += words(
        left, y + 20.0, "start",
        fmt::format("{}: spread {}, loss {}", state.name, format_number(state.relative_spread.mean),
                    format_number(state.loss.mean)));
    body += "<g shape-rendering=\"crispEdges\">\n";
    for (std::int64_t l = 0; l < rows; ++l) {
      // Equal neighbours are one rectangle.
      for (std::int64_t t = 0; t < columns;) {
        const auto shade_at = [&](std::int64_t at) {
          return colour(shade(grid.data_ptr<double>()[l * columns + at]));
        };
        const std::string fill = shade_at(t);
        std::int64_t end = t + 1;
        while (end < columns && shade_at(end) == fill) ++end;
        if (fill != "#ffffff") {
          body += fmt::format(
              "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n",
              left + cell * static_cast<double>(t),
              y + above + row_height * static_cast<double>(rows - 1 - l),
              cell * static_cast<double>(end - t), row_height, fill);
        }
        t = end;
      }
    }
    body += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" "
        "stroke=\"#444444\"/>\n</g>\n",
        left, y + above, cell * static_cast<double>(columns), height);
    body += words(left - 6.0, y + above + height, "end", "0");
    body += words(left - 6.0, y + above + 9.0, "end", std::to_string(rows - 1));
    for (std::int64_t t = 0; t < columns; t += std::max<std::int64_t>(1, columns / 8)) {
      body += words(left + cell * (static_cast<double>(t) + 0.5), y + above + height + 14.0,
                    "middle", std::to_string(t));
    }
    constexpr int steps = 24;
    for (int i = 0; i < steps; ++i) {
      const double share = 1.0 - static_cast<double>(i) / (steps - 1);
      const double top = y + above + height * i / steps;
      body += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"{:.1f}\" fill=\"{}\"/>\n",
          left + widest + 14.0, top, height / steps + 0.5, colour(share));
      if (i % 8 == 0 || i == steps - 1) {
        body += words(left + widest + 30.0, top + 8.0, "start",
                      format_number(smallest * std::pow(largest / smallest, share)));
      }
    }
    y += above + height + below;
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 "
      "0 "
      "{0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{2}</svg>\n",
      left + widest + right, y, body);
}

}  // namespace plumb
