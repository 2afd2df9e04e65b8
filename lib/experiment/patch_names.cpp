// The names of directions and sweeps.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"
#include "plumb/patch.h"

namespace plumb {
namespace {

constexpr std::array<std::pair<const char*, SweepAxis>, 7> sweep_axes = {{
    {"layer", SweepAxis::layer},
    {"position", SweepAxis::position},
    {"head", SweepAxis::head},
    {"neuron", SweepAxis::neuron},
    {"expert", SweepAxis::expert},
    {"query", SweepAxis::query},
    {"key", SweepAxis::key},
}};

// The axes of a part's tensor that a sweep's axis goes over.
bool goes_over(SweepAxis axis, Part part) {
  const auto has = [&](std::initializer_list<Axis> wanted) {
    return std::ranges::any_of(axes(part),
                               [&](Axis own) { return std::ranges::count(wanted, own) > 0; });
  };
  switch (axis) {
    case SweepAxis::layer: return per_layer(part);
    case SweepAxis::position: return has({Axis::position, Axis::query});
    case SweepAxis::head: return has({Axis::head, Axis::kv_head});
    case SweepAxis::neuron: return has({Axis::d_mlp});
    case SweepAxis::expert: return has({Axis::expert});
    case SweepAxis::query: return has({Axis::query});
    case SweepAxis::key: return has({Axis::key});
    case SweepAxis::set: return false;
  }
  return false;
}

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
                          "paste corrupt), got {}",
                          printable(text)));
}

const char* to_string(PathMlps mlps) noexcept {
  return mlps == PathMlps::frozen ? "frozen" : "recomputed";
}

PathMlps parse_path_mlps(const std::string& text) {
  if (text == "frozen") return PathMlps::frozen;
  if (text == "recomputed") return PathMlps::recomputed;
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected frozen (MLPs keep their values) or recomputed (they see what "
                          "was sent), got {}",
                          printable(text)));
}

std::string to_string(const SweepSpec& spec) {
  if (!spec.sets.empty()) return "sets";
  std::vector<std::string> names;
  for (const SweepAxis axis : spec.axes) names.emplace_back(to_string(axis));
  return fmt::format("{}:{}", to_string(spec.part), fmt::join(names, ","));
}

const char* to_string(SweepAxis axis) noexcept {
  for (const auto& [name, known] : sweep_axes) {
    if (known == axis) return name;
  }
  return "set";
}

SiteSet parse_site_set(const std::string& text, int layers) {
  return {.name = text, .sites = parse_sites(text, layers)};
}

SweepSpec sweep_of_sets(std::vector<SiteSet> sets) {
  return {.axes = {SweepAxis::set}, .sets = std::move(sets)};
}

std::vector<SweepSpec> parse_sweeps(const std::string& text) {
  std::vector<SweepSpec> sweeps;
  if (text == "every") {
    for (const Part part : {Part::resid_pre, Part::attn_out, Part::mlp_out})
      sweeps.push_back({.part = part, .axes = {SweepAxis::layer, SweepAxis::position}});
  } else if (text == "every-head") {
    for (const Part part : {Part::z, Part::q, Part::k, Part::v, Part::pattern})
      sweeps.push_back({.part = part, .axes = {SweepAxis::layer, SweepAxis::head}});
  } else {
    sweeps.push_back(parse_sweep(text));
  }
  return sweeps;
}

SweepSpec parse_sweep(const std::string& text) {
  const auto wrong = [&](const std::string& what) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("sweep {}: {}; expected SITE:AXES, like resid_pre:layer,position or "
                            "z:layer,head, or a bundle, every or every-head",
                            printable(text), what));
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
  if (!known) wrong(fmt::format("there is no site {}", printable(site)));
  const bool embeds = spec.part == Part::embed || spec.part == Part::pos_embed;
  if (!per_layer(spec.part) && !embeds)
    wrong(fmt::format("{} occurs once, not in every layer", site));
  spec.axes.clear();
  for (const std::string& word : words(text.substr(colon + 1))) {
    const auto* const axis = std::ranges::find_if(
        sweep_axes, [&](const auto& candidate) { return word == candidate.first; });
    if (axis == sweep_axes.end())
      wrong(
          fmt::format("{} is no axis; there are layer, position, head, neuron, expert, "
                      "query, key",
                      printable(word)));
    if (std::ranges::count(spec.axes, axis->second) > 0)
      wrong(fmt::format("{} is given twice", word));
    if (!goes_over(axis->second, spec.part)) wrong(fmt::format("{} has no axis {}", site, word));
    spec.axes.push_back(axis->second);
  }
  const auto has = [&](SweepAxis axis) { return std::ranges::count(spec.axes, axis) > 0; };
  if (!embeds && !has(SweepAxis::layer)) wrong("the axis layer is missing");
  if (has(SweepAxis::position) && has(SweepAxis::query))
    wrong("the position of a row is its query; give one of them");
  return spec;
}

}  // namespace plumb
