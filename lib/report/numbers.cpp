#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plumb/report.h"

namespace plumb {
namespace {

constexpr int kMostDecimals = 6;

// The power of ten of the leading digit.
int magnitude(double value) { return static_cast<int>(std::floor(std::log10(std::abs(value)))); }

}  // namespace

std::string format_number(double value) {
  if (!std::isfinite(value) || value == 0.0) return fmt::format("{}", value == 0.0 ? 0.0 : value);
  const double size = std::abs(value);
  if (size >= 1e7 || size < 1e-4) return fmt::format("{:.2e}", value);
  if (value == std::round(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{:.{}f}", value, std::clamp(2 - magnitude(value), 0, kMostDecimals));
}

std::string format_interval(double value, double low, double high) {
  const double width = high - low;
  const double largest = std::max({std::abs(value), std::abs(low), std::abs(high)});
  const bool plain =
      std::isfinite(width) && width > 0 && std::isfinite(value) && largest < 1e7 && width >= 1e-5;
  if (!plain) {
    return fmt::format("{} [{}, {}]", format_number(value), format_number(low),
                       format_number(high));
  }
  const int decimals = std::clamp(1 - magnitude(width), 0, kMostDecimals);
  const auto show = [&](double number) {
    std::string text = fmt::format("{:.{}f}", number, decimals);
    // "-0.00" says no more than "0.00".
    if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') text.erase(0, 1);
    return text;
  };
  return fmt::format("{} [{}, {}]", show(value), show(low), show(high));
}

}  // namespace plumb
