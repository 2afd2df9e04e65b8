#include "plumb/site.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "plumb/error.h"

namespace plumb {

namespace {

using enum Axis;

struct PartRow {
  Part part;
  std::string_view name;
  bool per_layer;
  std::array<Axis, 4> axes;
  std::size_t rank;
  std::string_view
      tl;  ///< TransformerLens' suffix, after "blocks.N." where per layer; empty = none
};

constexpr std::array<PartRow, part_count> parts{{
    {Part::embed, "embed", false, {batch, position, d_model}, 3, "hook_embed"},
    {Part::pos_embed, "pos_embed", false, {batch, position, d_model}, 3, "hook_pos_embed"},
    {Part::resid_pre, "resid_pre", true, {batch, position, d_model}, 3, "hook_resid_pre"},
    {Part::q_in, "q_in", true, {batch, position, d_model}, 3, ""},
    {Part::k_in, "k_in", true, {batch, position, d_model}, 3, ""},
    {Part::v_in, "v_in", true, {batch, position, d_model}, 3, ""},
    {Part::ln1_scale, "ln1_scale", true, {batch, position, scale}, 3, ""},
    {Part::q, "q", true, {batch, position, head, d_head}, 4, "attn.hook_rot_q"},
    {Part::k, "k", true, {batch, position, kv_head, d_head}, 4, "attn.hook_rot_k"},
    {Part::v, "v", true, {batch, position, kv_head, d_head}, 4, "attn.hook_v"},
    {Part::scores, "scores", true, {batch, head, query, key}, 4, "attn.hook_attn_scores"},
    {Part::sink_mass, "sink_mass", true, {batch, head, query, scale}, 4, ""},
    {Part::pattern, "pattern", true, {batch, head, query, key}, 4, "attn.hook_pattern"},
    {Part::z_gate, "z_gate", true, {batch, position, head, d_head}, 4, ""},
    {Part::z, "z", true, {batch, position, head, d_head}, 4, "attn.hook_z"},
    {Part::ln1_post_scale, "ln1_post_scale", true, {batch, position, scale}, 3, ""},
    {Part::head_out, "head_out", true, {batch, position, head, d_model}, 4, "attn.hook_result"},
    {Part::attn_out, "attn_out", true, {batch, position, d_model}, 3, "hook_attn_out"},
    {Part::resid_mid, "resid_mid", true, {batch, position, d_model}, 3, "hook_resid_mid"},
    {Part::mlp_in, "mlp_in", true, {batch, position, d_model}, 3, "hook_mlp_in"},
    {Part::ln2_scale, "ln2_scale", true, {batch, position, scale}, 3, ""},
    {Part::mlp_pre, "mlp_pre", true, {batch, position, d_mlp}, 3, "mlp.hook_pre"},
    {Part::mlp_up, "mlp_up", true, {batch, position, d_mlp}, 3, "mlp.hook_pre_linear"},
    {Part::mlp_post, "mlp_post", true, {batch, position, d_mlp}, 3, "mlp.hook_post"},
    {Part::router, "router", true, {batch, position, expert}, 3, ""},
    {Part::expert_out, "expert_out", true, {batch, position, expert, d_model}, 4, ""},
    {Part::shared_out, "shared_out", true, {batch, position, d_model}, 3, ""},
    {Part::ln2_post_scale, "ln2_post_scale", true, {batch, position, scale}, 3, ""},
    {Part::mlp_out, "mlp_out", true, {batch, position, d_model}, 3, "hook_mlp_out"},
    {Part::resid_post, "resid_post", true, {batch, position, d_model}, 3, "hook_resid_post"},
    {Part::resid_final, "resid_final", false, {batch, position, d_model}, 3, ""},
    {Part::final_scale, "final_scale", false, {batch, position, scale}, 3, ""},
    {Part::logits, "logits", false, {batch, position, vocab}, 3, ""},
}};

const PartRow& row(Part part) { return parts[static_cast<std::size_t>(part)]; }

std::string all_names() {
  std::string names;
  for (const auto& entry : parts) {
    if (!names.empty()) names += ' ';
    names += entry.name;
  }
  return names;
}

// Fit for a line, and no longer than that needs.
std::string shown(std::string_view text, std::size_t longest) {
  std::string line(text.substr(0, longest));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text.size() > longest ? line + "..." : line;
}

[[noreturn]] void fail(std::string_view text, std::string_view why) {
  throw Error(
      ErrorKind::bad_argument,
      fmt::format("cannot read the site \"{}\": {}; a site looks like L3.z, L0-2.attn_out or "
                  "L3.pattern[h=1,4;t=0], with the parts {}",
                  shown(text, 100), shown(why, 200), all_names()));
}

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

const PartRow* find_part(std::string_view name) {
  const auto found = std::ranges::find(parts, name, &PartRow::name);
  return found == parts.end() ? nullptr : &*found;
}

constexpr std::int64_t longest_range = 1 << 20;
// Indices that a set of sites may name, all in all.
constexpr std::size_t most_indices = std::size_t{1} << 22U;

std::vector<std::int64_t> parse_indices(std::string_view text, std::string_view whole) {
  std::vector<std::int64_t> indices;
  if (text == "*") return indices;
  while (true) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const auto dash = item.find('-');
    const auto first = number(item.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(item.substr(dash + 1));
    if (!first || !last || *last < *first) {
      fail(whole, fmt::format("\"{}\" is not an index, a range or *", item));
    }
    if (*last - *first >= longest_range) fail(whole, fmt::format("the range {} is too long", item));
    for (auto index = *first; index <= *last; ++index) indices.push_back(index);
    if (indices.size() > most_indices) fail(whole, "it names too many entries");
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return indices;
}

Slice parse_slice(std::string_view text, const PartRow& part, std::string_view whole) {
  Slice slice;
  std::string seen;
  const auto has = [&](std::initializer_list<Axis> wanted) {
    return std::any_of(part.axes.begin(),
                       part.axes.begin() + static_cast<std::ptrdiff_t>(part.rank),
                       [&](Axis axis) { return std::ranges::find(wanted, axis) != wanted.end(); });
  };
  while (true) {
    const auto end = text.find(';');
    const std::string_view item = text.substr(0, end);
    if (item.size() < 3 || item[1] != '=') {
      fail(whole, fmt::format("\"{}\" is not of the form h=, t=, k=, e= or u= with indices", item));
    }
    if (seen.find(item[0]) != std::string::npos)
      fail(whole, fmt::format("{}= stands twice", item[0]));
    seen += item[0];
    auto indices = parse_indices(item.substr(2), whole);
    bool fits = false;
    switch (item[0]) {
      case 'h':
        fits = has({head, kv_head});
        slice.heads = std::move(indices);
        break;
      case 't':
        fits = has({position, query});
        slice.positions = std::move(indices);
        break;
      case 'k':
        fits = has({key});
        slice.keys = std::move(indices);
        break;
      case 'e':
        fits = has({expert});
        slice.experts = std::move(indices);
        break;
      case 'u':
        fits = has({d_head, d_model, d_mlp, vocab});
        slice.units = std::move(indices);
        break;
      default: fail(whole, fmt::format("there is no axis {}=", item[0]));
    }
    if (!fits) fail(whole, fmt::format("{} has no axis {}=", part.name, item[0]));
    if (end == std::string_view::npos) return slice;
    text.remove_prefix(end + 1);
  }
}

std::optional<SlicedSite> parse_tl(std::string_view text) {
  for (const auto& part : parts) {
    if (part.tl.empty()) continue;
    if (!part.per_layer) {
      if (text == part.tl) return SlicedSite{.site = {.part = part.part}};
      continue;
    }
    constexpr std::string_view prefix = "blocks.";
    if (!text.starts_with(prefix) || !text.ends_with(part.tl)) continue;
    std::string_view middle = text.substr(prefix.size());
    middle.remove_suffix(part.tl.size());
    if (!middle.ends_with('.')) continue;
    middle.remove_suffix(1);
    if (const auto layer = number(middle); layer && *layer < longest_range) {
      return SlicedSite{.site = {.part = part.part, .layer = static_cast<int>(*layer)}};
    }
  }
  return std::nullopt;
}

struct Pattern {
  const PartRow* part = nullptr;
  std::optional<std::vector<std::int64_t>> layers = {};  ///< nullopt = all
  Slice slice = {};
};

// In a set, a part of layers without a layer means all of them.
Pattern parse_pattern(std::string_view text, bool set) {
  Pattern result;
  std::string_view rest = text;
  std::string_view inside;
  bool sliced = false;
  if (const auto open = rest.find('['); open != std::string_view::npos) {
    if (!rest.ends_with(']')) fail(text, "the slice has no closing ]");
    inside = rest.substr(open + 1, rest.size() - open - 2);
    rest = rest.substr(0, open);
    sliced = true;
  }
  const auto dot = rest.find('.');
  const bool layered = rest.starts_with('L') && dot != std::string_view::npos;
  const std::string_view name = layered ? rest.substr(dot + 1) : rest;
  result.part = find_part(name);
  if (result.part == nullptr) fail(text, fmt::format("there is no part \"{}\"", name));
  if (layered != result.part->per_layer && (layered || !set)) {
    fail(text, layered ? fmt::format("{} occurs once, not in every layer", name)
                       : fmt::format("{} needs a layer, as in L3.{}", name, name));
  }
  if (layered) {
    const auto layers = rest.substr(1, dot - 1);
    if (layers != "*") result.layers = parse_indices(layers, text);
  } else if (!result.part->per_layer) {
    result.layers = std::vector<std::int64_t>{0};
  }
  if (sliced) result.slice = parse_slice(inside, *result.part, text);
  return result;
}

}  // namespace

std::string_view to_string(Part part) noexcept { return row(part).name; }

std::span<const Axis> axes(Part part) noexcept { return {row(part).axes.data(), row(part).rank}; }

std::string_view to_string(Axis axis) noexcept {
  constexpr std::array<std::string_view, 12> names{"batch", "position", "head",   "kv_head",
                                                   "query", "key",      "d_head", "d_model",
                                                   "d_mlp", "expert",   "vocab",  "scale"};
  return names[static_cast<std::size_t>(axis)];
}

bool per_layer(Part part) noexcept { return row(part).per_layer; }

std::string to_string(const Site& site) {
  return per_layer(site.part) ? fmt::format("L{}.{}", site.layer, to_string(site.part))
                              : std::string(to_string(site.part));
}

std::string to_string(const SlicedSite& site) {
  std::string text = to_string(site.site);
  std::string inside;
  const auto add = [&](char letter, const std::vector<std::int64_t>& indices) {
    if (indices.empty()) return;
    if (!inside.empty()) inside += ';';
    inside += fmt::format("{}={}", letter, fmt::join(indices, ","));
  };
  add('h', site.slice.heads);
  add('t', site.slice.positions);
  add('k', site.slice.keys);
  add('e', site.slice.experts);
  add('u', site.slice.units);
  return inside.empty() ? text : text + "[" + inside + "]";
}

std::string tl_name(const Site& site) {
  const auto& part = row(site.part);
  if (part.tl.empty()) return {};
  return part.per_layer ? fmt::format("blocks.{}.{}", site.layer, part.tl) : std::string(part.tl);
}

SlicedSite parse_site(std::string_view text) {
  if (const auto named = parse_tl(text)) return *named;
  const Pattern pattern = parse_pattern(text, false);
  if (!pattern.layers || pattern.layers->size() != 1) fail(text, "one layer is wanted, not a set");
  return {.site = {.part = pattern.part->part, .layer = static_cast<int>(pattern.layers->front())},
          .slice = pattern.slice};
}

std::vector<SlicedSite> parse_sites(std::string_view text, int layers) {
  std::vector<SlicedSite> sites;
  std::size_t entries = 0;
  int depth = 0;
  std::string item;
  const auto finish = [&] {
    if (item.empty()) return;
    if (const auto named = parse_tl(item)) {
      if (named->site.layer >= layers && per_layer(named->site.part))
        fail(item, fmt::format("the model has layers 0-{}", layers - 1));
      sites.push_back(*named);
    } else {
      Pattern pattern = parse_pattern(item, true);
      if (!pattern.layers) {
        pattern.layers.emplace();
        for (int layer = 0; layer < layers; ++layer) pattern.layers->push_back(layer);
      }
      for (const auto layer : *pattern.layers) {
        if (layer >= layers && per_layer(pattern.part->part)) {
          fail(item, fmt::format("the model has layers 0-{}", layers - 1));
        }
        const Slice& slice = pattern.slice;
        entries += 1 + slice.heads.size() + slice.positions.size() + slice.keys.size() +
                   slice.units.size() + slice.experts.size();
        if (entries > most_indices)
          fail(item, "with the sites before it, too many entries are named");
        sites.push_back({.site = {.part = pattern.part->part, .layer = static_cast<int>(layer)},
                         .slice = slice});
      }
    }
    item.clear();
  };
  for (const char c : text) {
    if (c == '[') ++depth;
    if (c == ']') --depth;
    const bool separator = c == ' ' || c == '\t' || c == '\n' || (c == ',' && depth == 0);
    if (separator && depth == 0) {
      finish();
    } else {
      item += c;
    }
  }
  finish();
  if (sites.empty()) fail(text, "it names nothing");
  return sites;
}

}  // namespace plumb
