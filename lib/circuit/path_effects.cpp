#include "plumb/path_effects.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "experiment/value_intervals.h"
#include "plumb/edge_run.h"
#include "plumb/error.h"

namespace plumb {

PathEffects path_effects(const Model& model, const EdgeSpace& space,
                         const std::vector<EdgePath>& paths, const Pairs& pairs,
                         const Metric& metric, const Progress& progress) {
  std::vector<std::vector<std::uint8_t>> masks;
  for (const EdgePath& path : paths) {
    masks.emplace_back(static_cast<std::size_t>(space.edges()), 0);
    for (const std::int64_t edge : path.edges) {
      if (edge < 0 || edge >= space.edges())
        throw Error(ErrorKind::bad_argument,
                    fmt::format("the model has {} edges, so {} is none", space.edges(), edge));
      masks.back()[static_cast<std::size_t>(edge)] = 1;
    }
  }
  const EdgeRuns runs =
      run_edges(model, space, masks, pairs, {.metric = metric, .noising = true}, progress);
  PathEffects found{.metric = metric, .evaluations = runs.evaluations};
  const at::Tensor whole = runs.clean - runs.corrupt;
  const double total = whole.mean().item<double>();
  if (total == 0.0 || !std::isfinite(total))
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("the clean and the corrupt runs have the same mean {}: there is nothing "
                    "that a path could be a share of",
                    to_string(metric)));
  found.total = bootstrap(whole);
  const at::Tensor shares = bootstrap_shares(whole.size(0));
  const at::Tensor of = at::mv(shares, whole);
  for (std::int64_t path = 0; path < std::ssize(paths); ++path) {
    const at::Tensor each = runs.clean - runs.each[path];
    found.paths.push_back(
        {.each = each,
         .effect = bootstrap(each),
         .share = middle_of(each.mean().item<double>() / total, at::mv(shares, each) / of)});
  }
  return found;
}

}  // namespace plumb
