// Numbers, tables, small plots and progress on a terminal; plain text in UTF-8, readable without
// colour.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/progress.h"

namespace plumb {

/// Columns that a terminal gives to the text: none for combining marks, two for East Asian wide
/// characters and emoji, one for a byte that is no UTF-8.
std::size_t display_width(std::string_view text);

/// Three significant digits, thousands in full: "0.349", "-53.1", "22644", "1.23e-07", "nan".
std::string format_number(double value);

/// "0.349 [0.303, 0.404]", with as many decimals as the width of the interval warrants.
std::string format_interval(double value, double low, double high);

/// Rows of text under a header, columns two spaces apart, a rule below the header, no boxes.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title = {};
    Align align = Align::right;
  };

  explicit Table(std::vector<Column> columns);

  /// Throws bad_argument if the number of cells is not that of the columns. Control characters in a
  /// cell become spaces.
  void add_row(std::vector<std::string> cells);
  std::size_t rows() const { return rows_.size(); }
  /// Every line ends with a line feed and has no trailing spaces.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// A character for each value of [rows, columns], from ' ' (0) to '@' (1), values outside clamped,
/// '?' where it is not a number; column labels run downwards. Either label list may be empty.
/// Throws bad_shape if the tensor has not two axes, bad_argument if labels and axes differ in
/// number.
std::string heat_map(const at::Tensor& values, const std::vector<std::string>& row_labels = {},
                     const std::vector<std::string>& column_labels = {});

/// A block of a height between smallest and largest for each value, ' ' where it is not finite.
std::string sparkline(const std::vector<double>& values);

/// Shows how far a job is and how long it will still take, from two seconds on: on a terminal a bar
/// that is redrawn up to eight times a second and wiped out at the end (when `done` reaches 1 or
/// the callback is destroyed), elsewhere a line every ten seconds. `done` falling back starts a new
/// estimate.
Progress progress_bar(std::FILE* out, bool tty);

}  // namespace plumb
