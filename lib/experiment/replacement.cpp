#include "plumb/replacement.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cmath>
#include <sstream>
#include <utility>

#include "checkpoint/json.h"
#include "checkpoint/printable.h"
#include "experiment/text_files.h"
#include "plumb/error.h"

namespace plumb {
namespace {

enum class Needs { nothing, number, vector };

struct Row {
  const char* name;
  ReplacementKind kind;
  Needs needs;
};

constexpr std::array<Row, 12> rows = {{
    {"other", ReplacementKind::other, Needs::nothing},
    {"zero", ReplacementKind::zero, Needs::nothing},
    {"mean", ReplacementKind::mean, Needs::nothing},
    {"mean-batch", ReplacementKind::mean_batch, Needs::nothing},
    {"mean-position", ReplacementKind::mean_position, Needs::nothing},
    {"resample", ReplacementKind::resample, Needs::nothing},
    {"put", ReplacementKind::put, Needs::vector},
    {"add", ReplacementKind::add, Needs::vector},
    {"scale", ReplacementKind::scale, Needs::number},
    {"project-out", ReplacementKind::project_out, Needs::vector},
    {"clamp-norm", ReplacementKind::clamp_norm, Needs::number},
    {"hide", ReplacementKind::hide, Needs::nothing},
}};

const char* what_is_needed(Needs needs) {
  return needs == Needs::nothing ? "" : needs == Needs::number ? ":NUMBER" : ":FILE";
}

at::Tensor numbers_of(const Json& list, const std::string& file) {
  std::vector<double> values;
  for (const Json& entry : list) {
    if (!entry.is_number())
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}: expected a list of numbers, or a list of such lists", file));
    values.push_back(entry.get<double>());
  }
  return at::tensor(values, at::kDouble);
}

}  // namespace

at::Tensor read_vector(const std::string& file) {
  const Json json = parse_json(read_input(file), file, 4);
  if (!json.is_array() || json.empty())
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: expected a JSON list of numbers, one for each entry of the site's "
                            "last axis, or a list of such lists, one for each layer",
                            file));
  if (!json.front().is_array()) return numbers_of(json, file);
  std::vector<at::Tensor> layers;
  for (const Json& row : json) {
    if (!row.is_array() || row.size() != json.front().size())
      throw Error(ErrorKind::bad_file, fmt::format("{}: its lists differ in length", file));
    layers.push_back(numbers_of(row, file));
  }
  return at::stack(layers);
}

std::string to_string(const Replacement& replacement) {
  for (const Row& row : rows) {
    if (row.kind != replacement.kind) continue;
    if (row.needs == Needs::number) return fmt::format("{}:{}", row.name, replacement.number);
    if (row.needs == Needs::vector) return fmt::format("{}:{}", row.name, replacement.vector_name);
    return row.name;
  }
  return "other";
}

Replacement parse_replacement(const std::string& text, std::uint64_t seed,
                              const std::function<at::Tensor(const std::string&)>& vector) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  std::vector<std::string> known;
  for (const Row& row : rows) {
    known.push_back(std::string(row.name) + what_is_needed(row.needs));
    if (name != row.name) continue;
    Replacement made{.kind = row.kind, .seed = seed};
    if ((row.needs == Needs::nothing) != (colon == std::string::npos) ||
        (row.needs != Needs::nothing && rest.empty())) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected {}, got {}", known.back(), printable(text)));
    }
    if (row.needs == Needs::number) {
      const auto [end, error] =
          std::from_chars(rest.data(), rest.data() + rest.size(), made.number);
      if (error != std::errc{} || end != rest.data() + rest.size() || !std::isfinite(made.number) ||
          (row.kind == ReplacementKind::clamp_norm && made.number < 0.0)) {
        throw Error(ErrorKind::bad_argument,
                    fmt::format("expected {} with a finite number{}, got {}", row.name,
                                row.kind == ReplacementKind::clamp_norm ? ", not negative" : "",
                                printable(text)));
      }
    }
    if (row.needs == Needs::vector) {
      made.vector = vector(rest);
      made.vector_name = rest;
    }
    return made;
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected {}, got {}", fmt::join(known, ", "), printable(text)));
}

std::vector<FixedEdit> parse_fixed_edits(
    const std::string& text, int layers, std::uint64_t seed,
    const std::function<at::Tensor(const std::string&)>& vector) {
  // As many as one set of sites may name.
  constexpr std::size_t most_indices = std::size_t{1} << 22U;
  std::size_t named = 0;
  std::vector<FixedEdit> edits;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    int depth = 0;
    std::size_t equals = std::string::npos;
    for (std::size_t i = 0; i < word.size() && equals == std::string::npos; ++i) {
      depth += word[i] == '[' ? 1 : word[i] == ']' ? -1 : 0;
      if (word[i] == '=' && depth == 0) equals = i;
    }
    if (equals == std::string::npos)
      throw Error(
          ErrorKind::bad_argument,
          fmt::format("expected SITES=EDIT, like L3.z[h=2;t=0]=zero, got {}", printable(word)));
    const Replacement replacement = parse_replacement(word.substr(equals + 1), seed, vector);
    for (const SlicedSite& site : parse_sites(word.substr(0, equals), layers)) {
      const Slice& slice = site.slice;
      named += 1 + slice.heads.size() + slice.positions.size() + slice.keys.size() +
               slice.units.size() + slice.experts.size();
      if (named > most_indices)
        throw Error(ErrorKind::bad_argument, "the edits name too many entries");
      edits.push_back({.at = site, .replacement = replacement});
    }
  }
  if (edits.empty())
    throw Error(ErrorKind::bad_argument, "expected SITES=EDIT, like L3.z[h=2;t=0]=zero");
  return edits;
}

}  // namespace plumb
