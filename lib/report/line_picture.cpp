#include "report/line_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "plumb/report.h"
#include "report/html_text.h"

namespace plumb::report {
namespace {

constexpr double left = 62;
constexpr double plot = 578;    // width
constexpr double legend = 120;  // width at least
constexpr double letter = 6.2;
constexpr double panel_height = 150;
constexpr double gap = 44;
constexpr double top = 34;
constexpr std::array<const char*, 8> colours = {"#4c72b0", "#dd8452", "#55a868", "#c44e52",
                                                "#8172b3", "#937860", "#da8bc3", "#8c8c8c"};
// Where half of the steps lie within this share of the steps, the axis is logarithmic.
constexpr double crowded = 0.25;

struct Range {
  double low = 0;
  double high = 1;
};

// Every line's finite range, a little wider; from 0 where that is near.
Range range_of(const Panel& panel) {
  double low = INFINITY;
  double high = -INFINITY;
  for (const Line& line : panel.lines) {
    for (const double value : line.values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (low > high) return {};
  const double margin = high > low ? 0.05 * (high - low) : std::max(0.05, 0.05 * std::abs(high));
  return {low >= 0 && low < high / 3 ? 0.0 : low - margin, high + margin};
}

bool same_names(const Panel& a, const Panel& b) {
  return std::ranges::equal(a.lines, b.lines, {}, &Line::name, &Line::name);
}

class Picture {
 public:
  /// `steps`: those of all lines, ascending.
  Picture(const std::vector<std::int64_t>& steps, std::size_t longest_name) {
    first_ = static_cast<double>(steps.front());
    last_ = std::max(first_ + 1, static_cast<double>(steps.back()));
    const auto middle = static_cast<double>(steps[steps.size() / 2]);
    if (steps.size() > 2 && middle - first_ < crowded * (last_ - first_))
      unit_ = std::max(1.0, static_cast<double>(steps[1]) - first_);
    width_ = left + plot + std::max(legend, 31 + letter * static_cast<double>(longest_name));
  }

  /// The legend may go on beside so many panels; beside 0 there is none.
  void add(const Panel& panel, int legend_panels) {
    const Range range = range_of(panel);
    const double ground = top + panels_ * (panel_height + gap) + panel_height;
    ++panels_;
    const auto y = [&](double value) {
      const double share = (value - range.low) / (range.high - range.low);
      return ground - panel_height * std::clamp(share, 0.0, 1.0);
    };
    if (panel.change != nullptr && panel.change->found) {
      const double from = x(panel.change->low);
      body_ += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" fill=\"#eee\"/>\n", from,
          ground - panel_height, std::max(1.0, x(panel.change->high) - from), panel_height);
      body_ += fmt::format(
          "<path d=\"M{:.1f} {:.1f}V{:.1f}\" stroke=\"#777\" "
          "stroke-dasharray=\"4 3\"/>\n",
          x(panel.change->step), ground - panel_height, ground);
    }
    text(left, ground - panel_height - 8, "start", panel.title, true);
    body_ += fmt::format("<path d=\"M{} {:.1f}V{:.1f}H{}\" fill=\"none\" stroke=\"#333\"/>\n", left,
                         ground - panel_height, ground, left + plot);
    for (const double value : {range.low, 0.5 * (range.low + range.high), range.high})
      text(left - 6, y(value) + 4, "end", format_number(value), false);
    for (const double step : {first_, halfway(), last_})
      text(x(step), ground + 15, "middle", fmt::format("{:.0f}", step), false);
    const double end = ground + (legend_panels - 1) * (panel_height + gap) + 4;
    for (std::size_t i = 0; i < panel.lines.size(); ++i) {
      draw(panel.lines[i], i, y);
      const double at_y = ground - panel_height + 12 + 13 * static_cast<double>(i);
      if (legend_panels > 0 && at_y <= end) name(panel.lines[i].name, i, at_y);
    }
  }

  std::string svg() const {
    const double height = top + panels_ * (panel_height + gap);
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" "
        "height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{2}</svg>\n",
        width_, height, body_);
  }

 private:
  double x(double step) const {
    const double share = unit_ > 0
                             ? std::log1p((step - first_) / unit_) / std::log1p(steps() / unit_)
                             : (step - first_) / steps();
    return left + plot * share;
  }

  double steps() const { return last_ - first_; }

  // The step in the middle of the axis.
  double halfway() const {
    return unit_ > 0 ? first_ + unit_ * std::expm1(0.5 * std::log1p(steps() / unit_))
                     : 0.5 * (first_ + last_);
  }

  void text(double at_x, double at_y, const char* anchor, const std::string& words, bool bold) {
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", at_x,
                         at_y, anchor, bold ? " font-weight=\"bold\"" : "", html(words));
  }

  static const char* dashes_of(std::size_t index) {
    return index < colours.size() ? "" : " stroke-dasharray=\"5 3\"";
  }

  void name(const std::string& words, std::size_t index, double at_y) {
    body_ +=
        fmt::format("<path d=\"M{:.1f} {:.1f}h14\" stroke=\"{}\" stroke-width=\"2\"{}/>\n",
                    left + plot + 12, at_y - 4, colours[index % colours.size()], dashes_of(index));
    text(left + plot + 31, at_y, "start", words, false);
  }

  template <typename Y>
  void draw(const Line& line, std::size_t index, const Y& y) {
    const char* colour = colours[index % colours.size()];
    std::string path;
    bool pen_down = false;
    for (std::size_t i = 0; i < line.values.size(); ++i) {
      if (!std::isfinite(line.values[i])) {
        pen_down = false;
        continue;
      }
      const double at_x = x(static_cast<double>(line.steps[i]));
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', at_x, y(line.values[i]));
      body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.8\" fill=\"{}\"/>\n", at_x,
                           y(line.values[i]), colour);
      pen_down = true;
    }
    body_ += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\"{}/>\n",
                         path, colour, dashes_of(index));
  }

  double width_ = 0;
  double first_ = 0;
  double last_ = 1;
  double unit_ = 0;  // of a logarithmic axis; 0: a linear one
  int panels_ = 0;
  std::string body_ = {};
};

}  // namespace

std::string line_picture(const std::vector<Panel>& panels) {
  std::set<std::int64_t> steps;
  std::size_t longest = 0;
  for (const Panel& panel : panels) {
    for (const Line& line : panel.lines) {
      steps.insert(line.steps.begin(), line.steps.end());
      longest = std::max(longest, line.name.size());
    }
  }
  if (steps.empty()) return {};
  Picture picture({steps.begin(), steps.end()}, longest);
  for (std::size_t i = 0; i < panels.size(); ++i) {
    // Panels of the same lines have one legend.
    if (i > 0 && same_names(panels[i - 1], panels[i])) {
      picture.add(panels[i], 0);
      continue;
    }
    int alike = 1;
    for (std::size_t j = i + 1; j < panels.size() && same_names(panels[i], panels[j]); ++j) ++alike;
    picture.add(panels[i], alike);
  }
  return picture.svg();
}

}  // namespace plumb::report
