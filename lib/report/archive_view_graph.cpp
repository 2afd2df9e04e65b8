// The effects of an archive of `plumb p0`, and the graph that was drawn from them.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/archive_columns.h"

namespace plumb::report {
namespace {

std::vector<std::string> parts_of(const std::string& text, char between) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find(between, from), text.size());
    if (end > from) parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}

// "a0+m0|a5": routes by "|", components by "+".
std::vector<Alternatives> read_alternatives(const ArchiveReader& archive,
                                            const std::string& group) {
  const Columns table(archive, group, "routes");
  std::vector<Alternatives> found;
  if (table.rows() == 0) return found;
  const auto shown_by = table.strings("shown_by");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    Alternatives set{.shown_by = shown_by[i]};
    for (const auto& route : parts_of(table.first()[i], '|'))
      set.routes.push_back(parts_of(route, '+'));
    found.push_back(std::move(set));
  }
  return found;
}

std::vector<DoubtfulPath> read_doubtful(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "name");
  std::vector<DoubtfulPath> paths;
  if (table.rows() == 0) return paths;
  const at::Tensor score = table.estimates("score");
  const at::Tensor elsewhere = table.estimates("elsewhere");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    paths.push_back({.name = table.first()[i],
                     .score = estimate(score, row),
                     .elsewhere = estimate(elsewhere, row)});
  }
  return paths;
}

std::int64_t count_of(const ArchiveReader& archive, const std::string& group, const char* name) {
  const double value = archive.number(group, name);
  if (!(value >= 0 && value < 1e15)) archive.refuse(group, fmt::format("no number '{}'", name));
  return static_cast<std::int64_t>(value);
}

}  // namespace

std::vector<Effect> read_effects(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "name");
  std::vector<Effect> effects;
  if (table.rows() == 0) return effects;
  const auto kind = table.strings("kind");
  const auto where = table.strings("where");
  const auto outcome = table.strings("outcome");
  const at::Tensor value = table.estimates("value");
  const auto removed = table.numbers("removed");
  const at::Tensor norm = table.estimates("norm_at_onset");
  const auto other_norm = table.numbers("other_norm");
  const auto other_position = table.numbers("other_position");
  const at::Tensor loss = table.estimates("loss_change");
  // Archives of earlier versions do not say.
  const auto sequences = archive.whole(group + "/sequences");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    Effect effect{.name = table.first()[i], .kind = kind[i], .where = where[i]};
    effect.value = estimate(value, row);
    effect.removed = removed[i];
    effect.norm = estimate(norm, row);
    effect.other_norm = other_norm[i];
    if (std::abs(other_position[i]) < 1e15)
      effect.other_position = static_cast<std::int64_t>(other_position[i]);
    effect.outcome = outcome[i];
    if (sequences.size() == table.rows()) effect.sequences = sequences[i];
    const Estimate change = estimate(loss, row);
    if (!std::isnan(change.mean)) effect.loss_change = change;
    effects.push_back(std::move(effect));
  }
  return effects;
}

void read_graph(const ArchiveReader& archive, const std::string& group, WaveReport& found) {
  if (!archive.has(group)) return;
  GraphCheck& graph = found.graph;
  graph.edges = count_of(archive, group, "edges");
  graph.candidates = count_of(archive, group, "candidates");
  graph.minimal = archive.attribute(group, "minimal") == "1";
  graph.least_edge = archive.attribute(group, "least_edge");
  graph.least_needed = archive.number(group, "least_needed");
  const auto share = [&](const char* name) {
    const at::Tensor value = archive.numbers(group + "/" + name, {3});
    return value.defined() ? estimate(value, 0) : Estimate{};
  };
  graph.faithfulness = share("faithfulness");
  graph.completeness = share("completeness");
  graph.random = archive.list(group + "/random_faithfulness");
  graph.random_completeness = archive.list(group + "/random_completeness");
  graph.matched = archive.list(group + "/matched_faithfulness");
  graph.matched_completeness = archive.list(group + "/matched_completeness");
  graph.doubtful = read_doubtful(archive, group + "/doubtful");
  found.paths = read_effects(archive, group + "/paths");
  found.alternatives = read_alternatives(archive, group + "/alternatives");
}

}  // namespace plumb::report
