#include "report/text_pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "plumb/version.h"

namespace plumb::report {
namespace {

bool starts_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }

// At most `most` characters, the last of them an ellipsis if there were more.
std::string cut(const std::string& text, std::size_t most) {
  if (width(text) <= most) return text;
  std::size_t seen = 0;
  std::size_t end = 0;
  while (end < text.size() && (seen += starts_character(text[end]) ? 1 : 0) < most) ++end;
  return text.substr(0, end) + "…";
}

std::string pad(const std::string& text, std::size_t to, bool left) {
  const std::size_t now = width(text);
  const std::string space(to > now ? to - now : 0, ' ');
  return left ? text + space : space + text;
}

}  // namespace

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string columns(const std::vector<std::string>& titles,
                    const std::vector<std::vector<std::string>>& rows, std::size_t indent) {
  constexpr std::size_t kGap = 2;
  constexpr std::size_t kNarrowest = 8;
  std::vector<bool> left;
  std::vector<std::string> names;
  std::vector<std::size_t> widths;
  for (const std::string& title : titles) {
    left.push_back(title.starts_with('<'));
    names.push_back(left.back() ? title.substr(1) : title);
    widths.push_back(width(names.back()));
  }
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  const std::size_t total = std::accumulate(widths.begin(), widths.end(), std::size_t{0}) +
                            kGap * (widths.size() - 1) + indent;
  if (total > kPageWidth) {
    std::size_t widest = widths.size();
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (left[i] && (widest == widths.size() || widths[i] > widths[widest])) widest = i;
    }
    if (widest < widths.size()) {
      const std::size_t excess = total - kPageWidth;
      widths[widest] = std::max(kNarrowest, widths[widest] - std::min(widths[widest], excess));
    }
  }
  std::string text;
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += std::string(kGap, ' ');
      line += pad(cut(row[i], widths[i]), widths[i], left[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  print(names);
  for (const auto& row : rows) print(row);
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
    if (!empty && width(line) + 1 + width(word) > kPageWidth) {
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
  return "\n" + text + "\n" + std::string(width(text), '-') + "\n";
}

std::string show_count(std::int64_t value) {
  std::string digits = std::to_string(value < 0 ? -value : value);
  for (auto at = static_cast<std::int64_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return (value < 0 ? "-" : "") + digits;
}

std::string show_norm(double value) {
  if (!std::isfinite(value)) return "-";
  if (std::abs(value) >= 100.0) return show_count(std::llround(value));
  return fmt::format("{:.{}f}", value, std::abs(value) >= 10.0 ? 1 : 2);
}

std::string show_share(double value) {
  if (!std::isfinite(value)) return "-";
  const double percent = 100.0 * value;
  // Avoids "-0 %", and "100 %" for what is not all.
  if (value < 1.0 && percent > 99.5) return fmt::format("{:.1f} %", std::floor(10.0 * percent) / 10.0);
  return fmt::format("{:.0f} %", std::abs(percent) < 0.5 ? 0.0 : percent);
}

std::string show_value(double value) {
  return std::isfinite(value) ? fmt::format("{:.3f}", value) : "-";
}

std::string show_change(double value) {
  return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "-";
}

std::string show_interval(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  const auto show = [](double v) {
    return std::abs(v) >= 100.0 ? show_norm(v) : fmt::format("{:.3f}", v);
  };
  return fmt::format("[{}, {}]", show(low), show(high));
}

std::string show_estimate(const Estimate& value) {
  if (!std::isfinite(value.mean)) return "-";
  return fmt::format("{} {}", show_value(value.mean), show_interval(value.low, value.high));
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
  std::string text = fmt::format("plumb {} {}: {} ({}, {} layers of {} heads, width {})\n", version(),
                                 run.command, run.model, config.family, config.layers, config.heads,
                                 config.d_model);
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
  return text + fmt::format("\n{} token-layer evaluations (one position through one block) in {}, peak memory {}\n",
                            show_count(evaluations), show_seconds(run.seconds),
                            show_bytes(run.peak_bytes));
}

}  // namespace plumb::report
