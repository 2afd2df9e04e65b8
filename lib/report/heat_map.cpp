#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "plumb/error.h"
#include "plumb/report.h"

namespace plumb {
namespace {

constexpr std::string_view kShades = " .:-=+*#%@";
constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

// Which of `count` equal steps a share of 0..1 falls in.
std::size_t step(double share, std::size_t count) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(count);
  return std::min(static_cast<std::size_t>(at), count - 1);
}

void check_labels(const std::vector<std::string>& labels, std::int64_t size, const char* axis) {
  if (!labels.empty() && static_cast<std::int64_t>(labels.size()) != size) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("a heat map of {} {} was given {} labels", size, axis, labels.size()));
  }
}

}  // namespace

std::string heat_map(const at::Tensor& values, const std::vector<std::string>& row_labels,
                     const std::vector<std::string>& column_labels) {
  if (!values.defined() || values.dim() != 2) {
    throw Error(ErrorKind::bad_shape, "a heat map needs a tensor of [rows, columns]");
  }
  check_labels(row_labels, values.size(0), "rows");
  check_labels(column_labels, values.size(1), "columns");
  const at::Tensor plain = values.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto cells = plain.accessor<double, 2>();
  std::size_t margin = 0;
  for (const std::string& label : row_labels) margin = std::max(margin, display_width(label));
  std::string out;
  const auto add_line = [&](const std::string& label, std::string line) {
    line = std::string(margin - display_width(label), ' ') + label + (margin > 0 ? " " : "") + line;
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  std::size_t height = 0;
  for (const std::string& label : column_labels) height = std::max(height, label.size());
  for (std::size_t i = 0; i < height; ++i) {
    std::string line = " ";
    for (const std::string& label : column_labels) {
      // Set on the ground, so that digits of one value line up.
      const std::size_t skipped = height - label.size();
      line += i >= skipped ? label[i - skipped] : ' ';
    }
    add_line("", line);
  }
  for (std::int64_t row = 0; row < values.size(0); ++row) {
    std::string line = "|";
    for (std::int64_t column = 0; column < values.size(1); ++column) {
      const double value = cells[row][column];
      line += std::isnan(value) ? '?' : kShades[step(value, kShades.size())];
    }
    add_line(row_labels.empty() ? "" : row_labels[static_cast<std::size_t>(row)], line + "|");
  }
  return out + fmt::format("0 |{}| 1\n", kShades);
}

std::string sparkline(const std::vector<double>& values) {
  double low = INFINITY;
  double high = -INFINITY;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  std::string out;
  for (const double value : values) {
    // Halves keep the difference of the largest doubles finite.
    const double range = high / 2 - low / 2;
    const double share = range > 0 ? (value / 2 - low / 2) / range : 0.5;
    out += std::isfinite(value) ? kBlocks[step(share, kBlocks.size())] : " ";
  }
  return out;
}

}  // namespace plumb
