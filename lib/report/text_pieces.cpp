#include "report/text_pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "plumb/report.h"
#include "plumb/version.h"

namespace plumb::report {
namespace {

// At most `most` columns, the last of them an ellipsis if there was more.
std::string cut(const std::string& text, std::size_t most) {
  if (display_width(text) <= most) return text;
  std::size_t end = text.size();
  while (end > 0 && display_width(text.substr(0, end)) >= most) --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "…";
}

}  // namespace

std::string columns(const std::vector<std::string>& titles,
                    const std::vector<std::vector<std::string>>& rows) {
  constexpr std::size_t kGap = 2;
  constexpr std::size_t kNarrowest = 8;
  std::vector<Table::Column> header;
  std::vector<std::size_t> widths;
  for (const std::string& title : titles) {
    const bool left = title.starts_with('<');
    header.push_back(
        {left ? title.substr(1) : title, left ? Table::Align::left : Table::Align::right});
    widths.push_back(display_width(header.back().title));
  }
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  // The widest left column gives way where the page is too narrow.
  const std::size_t total = std::accumulate(widths.begin(), widths.end(), kGap * widths.size());
  std::size_t widest = widths.size();
  for (std::size_t i = 0; i < widths.size(); ++i) {
    if (header[i].align == Table::Align::right) continue;
    if (widest == widths.size() || widths[i] > widths[widest]) widest = i;
  }
  if (total > kPageWidth && widest < widths.size()) {
    const std::size_t excess = total - kPageWidth;
    widths[widest] = std::max(kNarrowest, widths[widest] - std::min(widths[widest], excess));
  }
  Table table(std::move(header));
  for (std::vector<std::string> row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = cut(row[i], widths[i]);
    table.add_row(std::move(row));
  }
  return indented(table.text());
}

std::string indented(const std::string& lines) {
  std::string text;
  for (std::size_t from = 0; from < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', from), lines.size() - 1) + 1;
    text += "  " + lines.substr(from, end - from);
    from = end;
  }
  return text;
}

std::string wrap(std::string_view text, std::size_t indent, std::size_t hang) {
  std::string result;
  std::string line(indent, ' ');
  bool empty = true;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string word(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!empty && display_width(line) + 1 + display_width(word) > kPageWidth) {
      result += line + "\n";
      line = std::string(hang, ' ');
      empty = true;
    }
    line += (empty ? "" : " ") + word;
    empty = false;
  }
  return result + line + "\n";
}

std::string heading(const std::string& text) {
  return "\n" + text + "\n" + std::string(display_width(text), '-') + "\n";
}

std::string show_count(std::int64_t value) {
  std::string digits = std::to_string(value < 0 ? -value : value);
  for (auto at = static_cast<std::int64_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return (value < 0 ? "-" : "") + digits;
}

std::string show_norm(double value) { return std::isfinite(value) ? format_number(value) : "-"; }

std::string show_share(double value) {
  if (!std::isfinite(value)) return "-";
  const double percent = 100.0 * value;
  // Avoids "-0 %", and "100 %" for what is not all.
  if (value < 1.0 && percent > 99.5)
    return fmt::format("{:.1f} %", std::floor(10.0 * percent) / 10.0);
  return fmt::format("{:.0f} %", std::abs(percent) < 0.5 ? 0.0 : percent);
}

std::string show_value(double value) {
  if (!std::isfinite(value)) return "-";
  return std::abs(value) >= 100.0 ? format_number(value) : fmt::format("{:.3f}", value);
}

std::string show_change(double value) {
  return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "-";
}

std::string show_interval(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  return fmt::format("[{}, {}]", show_value(low), show_value(high));
}

std::string show_estimate(const Estimate& value) {
  if (!std::isfinite(value.mean)) return "-";
  return show_value(value.mean) + " " + show_interval(value.low, value.high);
}

std::string show_layers(int first, int last) {
  if (first == last) return fmt::format("layer {}", first);
  return fmt::format("layers {}-{}", first, last);
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

std::string show_token(std::int64_t id, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr || id < 0 || id >= tokenizer->size()) return fmt::format("token {}", id);
  return fmt::format("\"{}\"", tokenizer->show(id));
}

std::string show_run(const RunInfo& run, const SinkSurvey* survey) {
  const ModelConfig& config = run.config;
  std::string text =
      fmt::format("plumb {} {}: {} ({}, {} layers of {} heads, width {})\n", version(), run.command,
                  run.model, config.family, run.all_layers, config.heads, config.d_model);
  if (config.layers < run.all_layers) {
    text += fmt::format("Loaded: {} only\n", show_layers(run.first_layer, config.layers - 1));
  }
  if (survey != nullptr) {
    text += fmt::format("{}; {} on {} with {} thread{}, seed {}\n", show_inputs(*survey), run.dtype,
                        run.device, run.threads, run.threads == 1 ? "" : "s", run.seed);
  }
  return text;
}

std::string show_end(const RunInfo& run, std::int64_t evaluations) {
  std::string text;
  if (!run.files.empty()) {
    text += heading("Files");
    for (const auto& [what, file] : run.files) text += fmt::format("  {:<8} {}\n", what, file);
  }
  return text + fmt::format(
                    "\n{} token-layer evaluations (one position through one block) in {}, peak "
                    "memory {}\n",
                    show_count(evaluations), show_seconds(run.seconds), show_bytes(run.peak_bytes));
}

}  // namespace plumb::report
