#include "usage.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "plumb/error.h"

namespace plumb::app {
namespace {

// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
std::size_t edits(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  std::iota(cost[0].begin(), cost[0].end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({replaced, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

[[noreturn]] void refuse(const std::string& flag, const std::string& expected,
                         const std::string& text) {
  throw Error(ErrorKind::bad_argument,
              fmt::format("{} expects {}, not '{}'", flag, expected, text));
}

template <typename T>
bool parse(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  if constexpr (std::is_integral_v<T>) {
    const auto [stop, error] = std::from_chars(text.data(), end, value, 10);
    return error == std::errc{} && stop == end;
  } else {
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc{} && stop == end;
  }
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;  // the cost is the product of the lengths
  std::string best;
  std::size_t fewest = std::max<std::size_t>(1, word.size() / 3) + 1;
  if (word.size() > kLongest) return best;
  for (const std::string& candidate : known) {
    const std::size_t count = edits(word, candidate);
    if (count >= fewest) continue;
    fewest = count;
    best = candidate;
  }
  return best;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string best = nearest(word, known);
  return best.empty() ? "" : fmt::format("; did you mean '{}'?", best);
}

std::int64_t whole(const std::string& flag, const std::string& text, std::int64_t least,
                   std::int64_t most) {
  std::int64_t value = 0;
  if (!parse(text, value) || value < least || value > most) {
    refuse(flag, fmt::format("a whole number from {} to {}", least, most), text);
  }
  return value;
}

std::uint64_t seed_number(const std::string& flag, const std::string& text) {
  std::uint64_t value = 0;
  if (!parse(text, value)) {
    refuse(flag,
           fmt::format("a whole number from 0 to {}", std::numeric_limits<std::uint64_t>::max()),
           text);
  }
  return value;
}

double number(const std::string& flag, const std::string& text, double least, double most) {
  double value = 0.0;
  if (!parse(text, value) || !(value >= least) || !(value <= most)) {
    refuse(flag, fmt::format("a number from {:g} to {:g}", least, most), text);
  }
  return value;
}

std::int64_t byte_size(const std::string& flag, const std::string& text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  double value = 0.0;
  std::string unit = text.substr(digits);
  if (unit.ends_with('B')) unit.pop_back();
  const double step = unit.ends_with('i') ? 1024.0 : 1000.0;
  if (unit.ends_with('i')) unit.pop_back();
  const std::size_t power = unit.empty() ? 0 : std::string("KMGT").find(unit) + 1;
  const bool known = unit.empty() ? step == 1000.0 : unit.size() == 1 && power > 0;
  if (parse(text.substr(0, digits), value) && known) {
    for (std::size_t i = 0; i < power; ++i) value *= step;
    if (value >= 1.0 && value < 9e18) return static_cast<std::int64_t>(value);
  }
  refuse(flag, "a size such as 500MB, 8G or 2GiB", text);
}

std::string one_of(const std::string& flag, const std::string& text,
                   const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), text) == words.end()) {
    refuse(flag, fmt::format("one of {}", fmt::join(words, ", ")), text);
  }
  return text;
}

std::vector<std::string> comma_list(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string quote(const std::vector<std::string>& arguments) {
  std::string line;
  for (const std::string& argument : arguments) {
    if (!line.empty()) line += ' ';
    const bool plain =
        !argument.empty() && std::all_of(argument.begin(), argument.end(), [](char c) {
          return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                 std::string_view("-_=./:,+@%").find(c) != std::string_view::npos;
        });
    if (plain) {
      line += argument;
      continue;
    }
    line += '\'';
    for (const char c : argument) {
      if (c == '\'') {
        line += "'\\''";
      } else {
        line += c;
      }
    }
    line += '\'';
  }
  return line;
}

}  // namespace plumb::app
