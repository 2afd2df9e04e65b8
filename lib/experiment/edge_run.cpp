#include "plumb/edge_run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "core/parallel.h"
#include "experiment/edge_outside.h"
#include "experiment/edge_pass.h"
#include "experiment/patch_metric.h"
#include "model/follow.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::bad_argument, what); }

void check_space(const EdgeSpace& space, const Model& model) {
  const ModelConfig& config = model.config();
  if (space.layers() != config.layers || space.heads() != config.heads ||
      (space.kv_heads() != config.kv_heads && space.kv_heads() != config.heads) ||
      space.parallel() != config.parallel) {
    refuse(fmt::format(
        "the circuit is one of {} layers, {} heads and {} key heads{}, but {} has {}, {} and {}{}",
        space.layers(), space.heads(), space.kv_heads(), space.parallel() ? ", parallel" : "",
        model.name(), config.layers, config.heads, config.kv_heads,
        config.parallel ? ", parallel" : ""));
  }
  if (space.kv_heads() != config.kv_heads && config.qk_norm == QkNorm::whole)
    throw Error(ErrorKind::unsupported,
                "the model has one norm over all keys, which keys of single heads do not go with; "
                "give the circuit by key heads");
  if (!model.whole() || model.first_layer() != 0)
    refuse("a circuit is run on every layer of the model");
}

void check_asked(const std::vector<std::vector<std::uint8_t>>& masks, const EdgeSpace& space,
                 const Pairs& pairs, const EdgeRunOptions& options, const ModelConfig& config) {
  for (const auto& mask : masks) {
    if (std::ssize(mask) != space.edges())
      refuse(fmt::format("expected a set of {} edges, got one of {}", space.edges(), mask.size()));
  }
  if (pairs.count() < 1) refuse("expected at least one pair");
  using enum ReplacementKind;
  const ReplacementKind kind = options.outside.kind;
  if (kind != other && kind != zero && kind != mean && kind != mean_batch &&
      kind != mean_position && kind != resample) {
    refuse(fmt::format("edges outside a circuit carry the other run's writes, zero, mean, "
                       "mean-batch, mean-position or resample, not {}",
                       to_string(options.outside)));
  }
  if (kind == other && !pairs.paired)
    refuse("the prompts have no partners; edges outside may carry zero, a mean or resample");
  if (kind == other && pairs.to_clean.defined())
    refuse("circuits are run on pairs of prompts of one length, position by position alike");
  if (reads_block(options.metric))
    refuse(fmt::format("metric {}: a circuit is read at its logits", to_string(options.metric)));
  check_metric(options.metric, pairs, config);
}

at::Tensor at_reads(const at::Tensor& stream, const ReadPlan& reads) {
  const at::Tensor index = reads.positions.to(stream.device()).unsqueeze(2);
  return stream.gather(1, index.expand({-1, -1, stream.size(2)})).unsqueeze(1);
}

// One tile of pairs: its plain runs, and the metric of each set of edges.
class TileOfPairs {
 public:
  TileOfPairs(const Model& model, const EdgeSpace& space, const Pairs& pairs, std::int64_t first,
              std::int64_t count, const EdgeRunOptions& options, const Outside& outside,
              EdgeRuns& found)
      : pairs_(some_of(pairs, first, count)),
        reads_(read_plan(options.metric, pairs_, Which::clean)) {
    Plan plan{.record = outside.records(), .logits = Logits::none};
    plan.record.emplace_back(Site{Part::resid_final});
    const Run clean = run(model, pairs_.clean, plan);
    found.evaluations += clean.evaluations;
    input_ = clean.cache.at({Part::embed});
    outside_ = outside.values(first, count, clean.cache, found.evaluations);
    trunk_.resid_pre = {input_};
    follower_.emplace(model, trunk_, reads_.positions.to(model.device()));
    metric_.emplace(options.metric, pairs_, readout_of(*follower_), first);
    const at::Tensor last = at_reads(clean.cache.at({Part::resid_final}), reads_);
    metric_->compare_with(last);
    const at::Tensor plain = (*metric_)(last, reads_).squeeze(1);
    found.clean.narrow(0, first, count).copy_(plain);
    found.corrupt.narrow(0, first, count)
        .copy_(pairs_.paired ? corrupt(model, options, found) : plain);
    found.empty.narrow(0, first, count).copy_(metric_of(outside_.pre.back().expand_as(input_)));
    runner_.emplace(model, space, input_, outside_);
  }
  TileOfPairs(const TileOfPairs&) = delete;
  TileOfPairs& operator=(const TileOfPairs&) = delete;

  at::Tensor value(const std::vector<std::uint8_t>& mask) const {
    return metric_of(runner_->stream(mask));
  }

 private:
  at::Tensor metric_of(const at::Tensor& stream) const {
    return (*metric_)(at_reads(stream, reads_), reads_).squeeze(1).cpu();
  }

  at::Tensor corrupt(const Model& model, const EdgeRunOptions& options, EdgeRuns& found) const {
    const ReadPlan reads = read_plan(options.metric, pairs_, Which::corrupt);
    if (options.outside.kind == ReplacementKind::other)
      return (*metric_)(at_reads(outside_.pre.back(), reads), reads).squeeze(1);
    const Plan plan{.record = {Record(Site{Part::resid_final})}, .logits = Logits::none};
    const Run made = run(model, pairs_.corrupt, plan);
    found.evaluations += made.evaluations;
    return (*metric_)(at_reads(made.cache.at({Part::resid_final}), reads), reads).squeeze(1);
  }

  Pairs pairs_;
  ReadPlan reads_;
  at::Tensor input_ = {};
  OutsideValues outside_ = {};
  Trunk trunk_ = {};
  std::optional<Follower> follower_ = {};
  std::optional<LogitMetric> metric_ = {};
  std::optional<EdgeRunner> runner_ = {};
};

}  // namespace

EdgeRuns run_edges(const Model& model, const EdgeSpace& space,
                   const std::vector<std::vector<std::uint8_t>>& masks, const Pairs& pairs,
                   const EdgeRunOptions& options, const Progress& progress) {
  check_space(space, model);
  check_asked(masks, space, pairs, options, model.config());
  const c10::AutoGradMode no_gradients(false);
  const std::int64_t B = pairs.count();
  const auto n = std::ssize(masks);
  const auto none = [](std::initializer_list<std::int64_t> shape) {
    return at::zeros(shape, at::kDouble);
  };
  EdgeRuns found{.clean = none({B}), .corrupt = none({B}), .empty = none({B}), .each = none({n, B})};
  const Outside outside(model, pairs, options.outside);
  found.evaluations += outside.evaluations();
  const std::int64_t step = edge_tile(model.config(), pairs.length());
  std::int64_t done = 0;
  std::mutex lock;
  for (std::int64_t first = 0; first < B; first += step) {
    const std::int64_t count = std::min(step, B - first);
    const TileOfPairs tile(model, space, pairs, first, count, options, outside, found);
    parallel_pieces(n, model.threads(), [&](std::int64_t i) {
      const c10::AutoGradMode no_gradients_here(false);
      const at::Tensor value = tile.value(masks[static_cast<std::size_t>(i)]);
      const std::lock_guard guard(lock);
      found.each[i].narrow(0, first, count).copy_(value);
      done += count;
      if (progress)
        progress("running circuits", static_cast<double>(done) / static_cast<double>(B * n));
    });
    found.evaluations += n * count * pairs.length() * model.config().layers;
  }
  return found;
}

}  // namespace plumb
