// Heat maps of patching sweeps.
#include "plumb/report_svg.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "plumb/report.h"
#include "report/patch_pieces.h"

namespace plumb {
namespace {

// Pixels.
constexpr double widest = 880.0;
constexpr double smallest_cell = 2.0;
constexpr double largest_cell = 22.0;
constexpr double left = 60.0;
constexpr double above = 66.0;
constexpr double below = 58.0;
constexpr double beside = 110.0;  // the scale
constexpr double label_apart = 13.0;

// Cells that tell their value when pointed at: of more, the file would be mostly that.
constexpr std::int64_t most_told = 5000;

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      default: safe += c;
    }
  }
  return safe;
}

// -1 is blue, 0 white, 1 red.
std::string colour(double share) {
  if (!std::isfinite(share)) return "#bbbbbb";
  using Rgb = std::array<double, 3>;
  constexpr Rgb white = {255, 255, 255};
  constexpr Rgb red = {165, 15, 32};
  constexpr Rgb blue = {20, 80, 160};
  const Rgb& end = share < 0 ? blue : red;
  const double part = std::min(std::abs(share), 1.0);
  std::string text = "#";
  for (std::size_t i = 0; i < 3; ++i)
    text += fmt::format("{:02x}", std::lround(white[i] + part * (end[i] - white[i])));
  return text;
}

std::string words(double x, double y, const char* anchor, const std::string& text,
                  const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, escaped(text));
}

struct Picture {
  std::string text = {};
  double width = 0.0;
  double height = 0.0;
};

Picture picture_of(const Sweep& sweep, double centre, const std::string& title, double top) {
  const at::Tensor values = sweep.values.to(at::kDouble).contiguous();
  const std::int64_t rows = values.size(0);
  const std::int64_t columns = values.size(1);
  const double cell =
      std::clamp(widest / static_cast<double>(columns), smallest_cell, largest_cell);
  const double width = cell * static_cast<double>(columns);
  const double height = cell * static_cast<double>(rows);
  double largest = 0.0;
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double value = values.data_ptr<double>()[i];
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value - centre));
  }
  if (largest == 0.0) largest = 1.0;

  Picture made{.width = left + width + beside, .height = above + height + below};
  const double first = top + above;
  made.text += words(left, top + 24.0, "start", to_string(sweep.spec), " font-weight=\"bold\"");
  made.text += words(left, top + 44.0, "start", title);
  const auto row_axis = std::string(to_string(sweep.spec.axes[0]));
  const auto column_axis = std::string(to_string(sweep.spec.axes[1]));
  made.text += "<g shape-rendering=\"crispEdges\">\n";
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const double value = values.data_ptr<double>()[row * columns + column];
      made.text += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"",
          left + cell * static_cast<double>(column), first + cell * static_cast<double>(row), cell,
          cell, colour((value - centre) / largest));
      made.text += values.numel() > most_told
                       ? "/>\n"
                       : fmt::format("><title>{} {}, {} {}: {}</title></rect>\n", row_axis, row,
                                     column_axis, column, format_number(value));
    }
  }
  made.text += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" "
      "stroke=\"#444444\"/>\n</g>\n",
      left, first, width, height);
  const auto step = static_cast<std::int64_t>(std::ceil(label_apart / cell));
  for (std::int64_t row = 0; row < rows; row += step) {
    made.text += words(left - 6.0, first + cell * (static_cast<double>(row) + 0.5) + 4.0, "end",
                       std::to_string(row));
  }
  const std::int64_t wide_step = step * (cell * static_cast<double>(step) < 18.0 ? 2 : 1);
  for (std::int64_t column = 0; column < columns; column += wide_step) {
    made.text += words(left + cell * (static_cast<double>(column) + 0.5), first + height + 16.0,
                       "middle", std::to_string(column));
  }
  made.text += words(left + width / 2.0, first + height + 36.0, "middle", column_axis);
  const double middle = first + height / 2.0;
  made.text += words(16.0, middle, "middle", row_axis,
                     fmt::format(" transform=\"rotate(-90 16 {:.1f})\"", middle).c_str());

  constexpr int steps = 41;
  const double tall = std::max(height, 60.0) / steps;
  for (int i = 0; i < steps; ++i) {
    const double share = 1.0 - 2.0 * i / (steps - 1);
    made.text += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"{:.1f}\" fill=\"{}\"/>\n",
        left + width + 18.0, first + tall * i, tall + 0.5, colour(share));
    if (i % (steps / 2) == 0) {
      made.text += words(left + width + 38.0, first + tall * (i + 0.5) + 4.0, "start",
                         format_number(centre + share * largest));
    }
  }
  return made;
}

}  // namespace

std::string patch_svg(const PatchReport& report) {
  const bool clean = !report.paired || report.options.direction == Direction::noising;
  const double unpatched = clean ? report.clean_mean.mean : report.corrupt_mean.mean;
  const double centre = report.options.raw ? unpatched : 0.0;
  const std::string title = fmt::format("{}; {}", to_string(report.options.metric),
                                        report.options.raw ? "white = unpatched"
                                        : report.paired    ? "0 = unpatched, 1 = pasted from"
                                                           : "patched - unpatched");
  std::string maps;
  double width = 0.0;
  double height = 0.0;
  for (const Sweep& sweep : report.sweeps) {
    if (sweep.values.dim() != 2) continue;
    const Picture one = picture_of(sweep, centre, title, height);
    maps += one.text;
    width = std::max(width, one.width);
    height += one.height;
  }
  if (maps.empty()) return {};
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 "
      "0 "
      "{0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{2}</svg>\n",
      width, height, maps);
}

}  // namespace plumb
