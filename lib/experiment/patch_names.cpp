// The names of directions, metrics and sweeps.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "plumb/error.h"
#include "plumb/patch.h"

namespace plumb {
namespace {

constexpr std::array<std::pair<const char*, MetricKind>, 7> metrics = {{
    {"logit_diff", MetricKind::logit_diff},
    {"log_prob", MetricKind::log_prob},
    {"prob", MetricKind::prob},
    {"rank", MetricKind::rank},
    {"kl", MetricKind::kl},
    {"reverse_kl", MetricKind::reverse_kl},
    {"js", MetricKind::js},
}};

constexpr std::array<SweepAxis, 3> sweep_axes = {SweepAxis::layer, SweepAxis::position,
                                                 SweepAxis::head};

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

}  // namespace

const char* to_string(Direction direction) noexcept {
  return direction == Direction::denoising ? "denoising" : "noising";
}

Direction parse_direction(const std::string& text) {
  if (text == "denoising") return Direction::denoising;
  if (text == "noising") return Direction::noising;
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected denoising (run corrupt, paste clean) or noising (run clean, "
                          "paste corrupt), got \"{}\"",
                          text));
}

std::string to_string(const Metric& metric) {
  for (const auto& [name, kind] : metrics) {
    if (kind == metric.kind) return name;
  }
  return metric.name.empty() ? "custom" : metric.name;
}

Metric parse_metric(const std::string& text) {
  std::vector<std::string> names;
  for (const auto& [name, kind] : metrics) {
    if (text == name) return {.kind = kind};
    names.emplace_back(name);
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected a metric among {}, got \"{}\"", fmt::join(names, ", "), text));
}

const char* to_string(SweepAxis axis) noexcept {
  switch (axis) {
    case SweepAxis::layer: return "layer";
    case SweepAxis::position: return "position";
    case SweepAxis::head: return "head";
  }
  return "layer";
}

std::string to_string(const SweepSpec& spec) {
  std::vector<std::string> names;
  for (const SweepAxis axis : spec.axes) names.emplace_back(to_string(axis));
  return fmt::format("{}:{}", to_string(spec.part), fmt::join(names, ","));
}

SweepSpec parse_sweep(const std::string& text) {
  const auto wrong = [&](const std::string& what) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("sweep \"{}\": {}; expected SITE:AXES, like resid_pre:layer,position or "
                    "z:layer,head",
                    text, what));
  };
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) wrong("names no axes");
  const std::string site = text.substr(0, colon);
  SweepSpec spec;
  bool known = false;
  for (int index = 0; index < part_count && !known; ++index) {
    const Part part = static_cast<Part>(index);
    if (site != to_string(part)) continue;
    spec.part = part;
    known = true;
  }
  if (!known) wrong(fmt::format("there is no site \"{}\"", site));
  if (!per_layer(spec.part)) wrong(fmt::format("{} occurs once, not in every layer", site));
  spec.axes.clear();
  for (const std::string& word : words(text.substr(colon + 1))) {
    const auto* const axis = std::ranges::find_if(
        sweep_axes, [&](SweepAxis candidate) { return word == to_string(candidate); });
    if (axis == sweep_axes.end())
      wrong(fmt::format("\"{}\" is no axis; there are layer, position, head", word));
    if (std::ranges::count(spec.axes, *axis) > 0) wrong(fmt::format("{} is given twice", word));
    spec.axes.push_back(*axis);
  }
  if (std::ranges::count(spec.axes, SweepAxis::layer) == 0) wrong("the axis layer is missing");
  const auto has = [&](std::initializer_list<Axis> wanted) {
    return std::ranges::any_of(axes(spec.part),
                               [&](Axis axis) { return std::ranges::count(wanted, axis) > 0; });
  };
  if (std::ranges::count(spec.axes, SweepAxis::head) > 0 && !has({Axis::head, Axis::kv_head}))
    wrong(fmt::format("{} has no heads", site));
  return spec;
}

}  // namespace plumb
