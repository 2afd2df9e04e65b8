// Edge attribution from its tiles to its report.
#include "plumb/attribute.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <mutex>
#include <vector>

#include "core/parallel.h"
#include "experiment/attribute_report.h"
#include "experiment/edge_samples.h"
#include "experiment/edge_sums.h"
#include "experiment/edge_tiles.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr int most_steps = 1000;

}  // namespace

void check_edge_options(const Model& model, const Pairs& pairs, const Metric& metric,
                        const EdgeOptions& options) {
  check_gradient_metric(model, pairs, metric);
  if (options.steps < 1 || options.steps > most_steps)
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected 1 to {} steps of integration, got {}", most_steps, options.steps));
  if (options.each && options.by_position)
    throw Error(ErrorKind::bad_argument,
                "scores by position are means over pairs; ask for those of each pair without them");
  if (options.method == EdgeMethod::clean_corrupted && pairs.to_corrupt.defined())
    throw Error(ErrorKind::unsupported,
                "clean-corrupted takes gradients at both runs, position by position, and a map "
                "moves positions; take eap or eap-ig");
  if (options.rules != EdgeRules::gradient && !is_estimate(options.method))
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} takes no gradients, and {} are rules for these",
                            to_string(options.method), to_string(options.rules)));
  if (is_estimate(options.method)) {
    if (!options.only.empty())
      throw Error(ErrorKind::bad_argument,
                  "gradients give all edges at once; only direct and exact take a list of them");
    return;
  }
  if (options.by_position)
    throw Error(ErrorKind::unsupported,
                fmt::format("{} patches a sender at all positions; by position there are only "
                            "estimates",
                            to_string(options.method)));
  if (options.method == EdgeMethod::direct && reads_block(metric))
    throw Error(ErrorKind::unsupported,
                fmt::format("direct effects go straight to the logits, and {} is read before; take "
                            "exact",
                            to_string(metric)));
  const std::int64_t edges = EdgeSpace(model.config()).edges();
  for (const std::int64_t edge : options.only) {
    if (edge < 0 || edge >= edges)
      throw Error(ErrorKind::bad_argument,
                  fmt::format("the model has {} edges, so {} is none", edges, edge));
  }
}

std::string edge_convention(const Pairs& pairs, const Metric& metric, const EdgeOptions& options) {
  if (!is_estimate(options.method)) {
    return fmt::format(
        "{} of the clean run less that of a run in which the receiver reads the sender's corrupt "
        "value, {}; mean over {} pairs; positive = the edge raises the metric",
        to_string(metric),
        options.method == EdgeMethod::exact
            ? "and everything behind it follows"
            : "and what it then writes goes straight to the final stream, all else frozen",
        pairs.count());
  }
  std::string at;
  switch (options.method) {
    case EdgeMethod::eap: at = "on the clean run"; break;
    case EdgeMethod::clean_corrupted: at = "on the clean and the corrupt run, their mean"; break;
    case EdgeMethod::eap_ig:
      at = fmt::format(
          "on runs whose token embeddings lie between corrupt and clean, the mean of "
          "{} steps ({})",
          options.steps, to_string(options.points.value_or(IgPoints::left)));
      break;
    case EdgeMethod::eap_ig_activations:
      at = fmt::format(
          "on runs in which one component's write lies between corrupt and clean, the "
          "mean over the input, each block's attention, each MLP, and {} steps ({})",
          options.steps, to_string(options.points.value_or(IgPoints::right)));
      break;
    default: break;
  }
  return fmt::format(
      "(corrupt - clean write of the sender) times the gradient of -{} at what the receiver reads, "
      "before its norm, {}{}; {} positions, mean over {} pairs; positive = the edge "
      "raises the metric",
      to_string(metric), at,
      options.rules == EdgeRules::gradient
          ? std::string()
          : fmt::format(", by the rules {} of arXiv:2508.21258", to_string(options.rules)),
      options.by_position ? "for each of the" : "summed over", pairs.count());
}

namespace {

// Tiles of pairs, shared among threads.
void estimate(EdgeReport& report, const Model& model, const Pairs& pairs,
              const Progress& progress) {
  const EdgeOptions& options = report.options;
  const GradientTiling tiling(pairs.count(), pairs.length());
  const int depth = metric_depth(report.metric, model.config());
  const std::int64_t steps = tiling.count() * samples_of(options, depth);
  EdgeSums sums(tiling.count(), options);
  std::mutex lock;
  std::int64_t done = 0;
  const auto step = [&] {
    const std::lock_guard guard(lock);
    ++done;
    if (progress) progress("scoring edges", static_cast<double>(done) / static_cast<double>(steps));
  };
  parallel_pieces(tiling.count(), model.threads(), [&](std::int64_t index) {
    const c10::AutoGradMode no_gradients(false);
    const std::int64_t first = tiling.first(index);
    const Pairs own = some_of(pairs, first, tiling.pairs(index));
    sums.add(index, score_tile(model, own, first, report.metric, options, step));
  });
  sums.finish(report, pairs.count());
}

}  // namespace

EdgeReport edge_report(const Model& model, const Pairs& pairs, const Metric& metric,
                       const EdgeOptions& options, const Progress& progress, const Tiles& tiles) {
  check_edge_options(model, pairs, metric, options);
  EdgeReport report{.options = options, .metric = metric};
  report.scores.space = EdgeSpace(model.config());
  if (is_estimate(options.method)) {
    estimate(report, model, pairs, progress);
  } else {
    add_up(report, effect_tiles(report, model, pairs, progress, tiles), pairs.count());
  }
  report.scores.method = to_string(options.method);
  report.scores.convention = edge_convention(pairs, metric, options);
  return report;
}

EdgeScores attribute_edges(const Model& model, const Pairs& pairs, const Metric& metric,
                           const EdgeOptions& options, const Progress& progress) {
  return edge_report(model, pairs, metric, options, progress).scores;
}

}  // namespace plumb
