// Node attribution from its tiles to its report.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <utility>

#include "core/parallel.h"
#include "experiment/attribute_metric.h"
#include "experiment/node_refs.h"
#include "experiment/node_tile.h"
#include "experiment/patch_jobs.h"
#include "model/tiling.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr int most_steps = 1000;

constexpr std::array<Part, 16> node_parts = {
    Part::resid_pre, Part::q,          Part::k,          Part::v,
    Part::pattern,   Part::z_gate,     Part::z,          Part::attn_out,
    Part::resid_mid, Part::mlp_pre,    Part::mlp_up,     Part::mlp_post,
    Part::mlp_out,   Part::expert_out, Part::shared_out, Part::resid_post};

void check_nodes_asked(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& nodes,
                       const NodeOptions& options) {
  if (nodes.empty())
    throw Error(ErrorKind::bad_argument, "expected at least one sweep of nodes, got none");
  if (options.steps < 1 || options.steps > most_steps)
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected 1 to {} steps of integration, got {}", most_steps, options.steps));
  for (const SweepSpec& spec : nodes) {
    if (!spec.sets.empty())
      throw Error(ErrorKind::bad_argument,
                  "nodes are single sites; sets of sites are patched by plumb patch");
    if (std::ranges::count(node_parts, spec.part) == 0)
      throw Error(ErrorKind::bad_argument,
                  fmt::format("nodes {}: expected q, k, v, z, attn_out, mlp_out, mlp_post, "
                              "expert_out, resid_pre or another site that components write, not {}",
                              to_string(spec), to_string(spec.part)));
    if (std::ranges::count(spec.axes, SweepAxis::layer) != 1)
      throw Error(ErrorKind::bad_argument,
                  fmt::format("nodes {}: expected the axis layer, once", to_string(spec)));
    check_sweep(spec, model.config());
    if (spec.part == Part::pattern && pairs.to_corrupt.defined())
      throw Error(ErrorKind::unsupported,
                  "pattern relates two positions, and cannot be compared between prompts that a "
                  "map aligns");
  }
}

std::string convention(const Pairs& pairs, const Metric& metric, const NodeOptions& options) {
  const bool noising = options.direction == Direction::noising;
  std::string at = noising ? "on the clean run" : "on the corrupt run";
  if (options.method == NodeMethod::ig)
    at = fmt::format(
        "on {} runs in which one site of one block lies between corrupt and clean, all else as in "
        "the {} run, their mean ({})",
        options.steps, noising ? "clean" : "corrupt", to_string(options.points));
  if (options.method == NodeMethod::ig_inputs)
    at = fmt::format(
        "on {} runs whose token embeddings lie between corrupt and clean, their mean "
        "({})",
        options.steps, to_string(options.points));
  std::string words = fmt::format("(clean - corrupt value of the node) times the gradient of {} {}",
                                  to_string(metric), at);
  if (options.method == NodeMethod::atp_qk || options.method == NodeMethod::atp_star)
    words +=
        "; of q and k: the change of the pattern, its softmax computed anew, times the "
        "gradient at it";
  if (options.method == NodeMethod::atp_star)
    words +=
        "; absolute, mean over passes that leave the writes of one other block out of the "
        "gradient (GradDrop)";
  words += fmt::format("; mean over {} pairs; ", pairs.count());
  if (options.method == NodeMethod::atp_star) return words + "never negative";
  return words + (options.method == NodeMethod::ig_inputs ? "positive = its clean value raises the "
                                                            "metric"
                  : noising ? "an estimate of the metric of the clean run less that with the "
                              "node's corrupt value; positive = its clean value raises the metric"
                            : "an estimate of the metric of the corrupt run with the node's clean "
                              "value less that of the corrupt run; positive = its clean value "
                              "raises the metric");
}

void add(at::Tensor& sum, const at::Tensor& part) { sum = sum.defined() ? sum + part : part; }

// [layers, nodes, ...] with the spec's axes, and what comes behind them.
at::Tensor laid_out(const at::Tensor& sums, const SweepSpec& spec, const ModelConfig& config,
                    std::int64_t T) {
  const std::vector<std::int64_t> wanted = sweep_shape(spec, config, T);
  const auto layer = std::ranges::find(spec.axes, SweepAxis::layer) - spec.axes.begin();
  std::vector<std::int64_t> shape = wanted;
  std::rotate(shape.begin(), shape.begin() + layer, shape.begin() + layer + 1);
  if (sums.dim() == 3) shape.push_back(sums.size(2));
  return sums.view(shape).movedim(0, layer).contiguous();
}

NodeSweep sweep_of(const std::vector<NodeTile>& tiles, std::size_t number, const SweepSpec& spec,
                   const ModelConfig& config, std::int64_t T, std::int64_t pairs,
                   NodeMethod method) {
  NodeSums all;
  std::vector<at::Tensor> each;
  for (const NodeTile& tile : tiles) {
    const NodeSums& own = tile.sweeps[number];
    add(all.effects, own.effects);
    add(all.magnitudes, own.magnitudes);
    add(all.doubts, own.doubts);
    if (own.each.defined()) each.push_back(own.each);
  }
  const auto mean = [&](const at::Tensor& sum) {
    return laid_out(sum / static_cast<double>(pairs), spec, config, T);
  };
  NodeSweep made{.spec = spec,
                 .effects = mean(all.effects),
                 .magnitudes = mean(all.magnitudes),
                 .doubts = mean(all.doubts)};
  made.scores = method == NodeMethod::atp_star ? made.magnitudes : made.effects;
  if (!each.empty()) made.each = laid_out(at::cat(each, 2), spec, config, T);
  for (int layer = 0; layer < config.layers; ++layer) {
    if (!has_part(config, spec.part, layer)) made.absent.push_back(layer);
  }
  return made;
}

}  // namespace

NodeReport node_report(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& nodes,
                       const Metric& metric, const NodeOptions& options, const Progress& progress) {
  check_nodes_asked(model, pairs, nodes, options);
  check_gradient_metric(model, pairs, metric);
  const ModelConfig& config = model.config();
  const std::int64_t T =
      tokens_of(pairs, options.direction == Direction::noising ? Which::clean : Which::corrupt)
          .length();
  const Tiling tiling(pairs.count(), T, false);
  const std::int64_t steps =
      tiling.count() * node_steps(config, metric_depth(metric, config), nodes, options);
  std::vector<NodeTile> tiles(static_cast<std::size_t>(tiling.count()));
  std::mutex lock;
  std::int64_t done = 0;
  const std::function<void()> step = [&] {
    const std::lock_guard guard(lock);
    ++done;
    if (progress) progress("scoring nodes", static_cast<double>(done) / static_cast<double>(steps));
  };
  parallel_pieces(tiling.count(), model.threads(), [&](std::int64_t index) {
    const c10::AutoGradMode no_gradients(false);
    const std::int64_t first = tiling.first(index);
    const Pairs own = some_of(pairs, first, tiling.sequences(index));
    tiles[static_cast<std::size_t>(index)] =
        score_nodes(model, own, first, nodes, metric, options, step);
  });
  NodeReport report{
      .options = options, .metric = metric, .convention = convention(pairs, metric, options)};
  for (std::size_t i = 0; i < nodes.size(); ++i)
    report.sweeps.push_back(sweep_of(tiles, i, nodes[i], config, T, pairs.count(), options.method));
  std::vector<at::Tensor> clean;
  std::vector<at::Tensor> corrupt;
  for (const NodeTile& tile : tiles) {
    clean.push_back(tile.clean);
    corrupt.push_back(tile.corrupt);
    report.evaluations += tile.evaluations;
    report.backwards += tile.backwards;
  }
  report.clean = at::cat(clean);
  report.corrupt = at::cat(corrupt);
  report.clean_mean = bootstrap(report.clean);
  report.corrupt_mean = bootstrap(report.corrupt);
  return report;
}

bool is_seen(const Metric& metric, Part part, int layer) {
  if (!reads_block(metric)) return true;
  const Site& read = metric.site.site;
  return layer < read.layer || (layer == read.layer && part <= read.part);
}

std::vector<NodeRef> strongest_nodes(const NodeReport& report, std::int64_t count) {
  std::vector<std::pair<double, NodeRef>> all;
  for (std::size_t sweep = 0; sweep < report.sweeps.size(); ++sweep) {
    const at::Tensor scores = report.sweeps[sweep].scores.contiguous();
    const auto* data = scores.data_ptr<double>();
    for (std::int64_t i = 0; i < scores.numel(); ++i) {
      if (!std::isnan(data[i])) all.push_back({std::abs(data[i]), {.sweep = sweep, .index = i}});
    }
  }
  std::ranges::stable_sort(all, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<NodeRef> chosen;
  for (const auto& [size, node] : all) {
    if (std::ssize(chosen) >= count) break;
    chosen.push_back(node);
  }
  return chosen;
}

}  // namespace plumb
