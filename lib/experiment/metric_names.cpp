// The names of metrics.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"
#include "plumb/patch.h"

namespace plumb {
namespace {

constexpr std::array<std::pair<const char*, MetricKind>, 9> metrics = {{
    {"logit_diff", MetricKind::logit_diff},
    {"log_prob", MetricKind::log_prob},
    {"prob", MetricKind::prob},
    {"prob_diff", MetricKind::prob_diff},
    {"rank", MetricKind::rank},
    {"kl", MetricKind::kl},
    {"reverse_kl", MetricKind::reverse_kl},
    {"js", MetricKind::js},
    {"loss", MetricKind::loss},
}};

constexpr const char* of_sites =
    "sink:LAYER, sink:LAYER.HEAD, attention:SITE, norm:SITE, projection:SITE:FILE";

std::vector<std::int64_t> numbers(const std::string& text, const char* separators) {
  std::vector<std::int64_t> found;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
    std::int64_t value = -1;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, value);
    if (error != std::errc{} || stop != text.data() + end || value < 0 || value > 1 << 30) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected whole numbers, not negative, got {}", printable(text)));
    }
    found.push_back(value);
    at = end + 1;
  }
  return found;
}

SlicedSite sink_site(const std::string& text) {
  const std::vector<std::int64_t> place = numbers(text, ".");
  if (place.size() > 2)
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected sink:LAYER or sink:LAYER.HEAD, got {}", printable("sink:" + text)));
  SlicedSite site{.site = {Part::pattern, static_cast<int>(place[0])}};
  site.slice.keys = {0};
  if (place.size() == 2) site.slice.heads = {place[1]};
  return site;
}

}  // namespace

bool reads_block(const Metric& metric) noexcept {
  return metric.kind == MetricKind::attention || metric.kind == MetricKind::norm ||
         metric.kind == MetricKind::projection;
}

std::string to_string(const Metric& metric) {
  switch (metric.kind) {
    case MetricKind::attention: return "attention:" + to_string(metric.site);
    case MetricKind::norm: return "norm:" + to_string(metric.site);
    case MetricKind::projection:
      return fmt::format("projection:{}:{}", to_string(metric.site), metric.direction_name);
    case MetricKind::loss:
      return metric.positions.empty() ? "loss"
                                      : fmt::format("loss@{}", fmt::join(metric.positions, ","));
    default: break;
  }
  for (const auto& [name, kind] : metrics) {
    if (kind == metric.kind) return name;
  }
  return metric.name.empty() ? "custom" : metric.name;
}

Metric parse_metric(const std::string& text,
                    const std::function<at::Tensor(const std::string&)>& vector) {
  std::vector<std::string> names;
  for (const auto& [name, kind] : metrics) {
    if (text == name) return {.kind = kind};
    names.emplace_back(name);
  }
  if (text.starts_with("loss@"))
    return {.kind = MetricKind::loss, .positions = numbers(text.substr(5), ",")};
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (!rest.empty()) {
    if (kind == "sink") return {.kind = MetricKind::attention, .site = sink_site(rest)};
    if (kind == "attention") return {.kind = MetricKind::attention, .site = parse_site(rest)};
    if (kind == "norm") return {.kind = MetricKind::norm, .site = parse_site(rest)};
    const std::size_t file = rest.find(':');
    if (kind == "projection" && file != std::string::npos) {
      Metric metric{.kind = MetricKind::projection, .site = parse_site(rest.substr(0, file))};
      metric.direction_name = rest.substr(file + 1);
      metric.direction = vector(metric.direction_name);
      return metric;
    }
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected a metric among {}, loss@POSITIONS, {}, got {}",
                          fmt::join(names, ", "), of_sites, printable(text)));
}

}  // namespace plumb
