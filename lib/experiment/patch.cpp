#include "plumb/patch.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <numeric>
#include <utility>

#include "core/parallel.h"
#include "experiment/patch_metric.h"
#include "experiment/patch_starts.h"
#include "model/follow.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Live positions of one tile, packed into one matrix: enough that reading the weights costs little
// beside the product, few enough that the jobs of an experiment keep all cores busy to its end.
constexpr std::int64_t rows_per_job = 1024;

struct Job {
  std::size_t sweep = 0;
  int layer = 0;
  std::vector<PatchItem> items = {};
  std::vector<std::int64_t> index = {};  ///< of each item in its sweep, row-major
  std::int64_t rows = 0;
};

std::int64_t size_of(SweepAxis axis, const SweepSpec& spec, const ModelConfig& config,
                     std::int64_t length) {
  switch (axis) {
    case SweepAxis::layer: return config.layers;
    case SweepAxis::position: return length;
    case SweepAxis::head: return heads_of(spec.part, config);
  }
  return 0;
}

std::vector<std::int64_t> shape_of(const SweepSpec& spec, const ModelConfig& config,
                                   std::int64_t length) {
  std::vector<std::int64_t> shape;
  for (const SweepAxis axis : spec.axes) shape.push_back(size_of(axis, spec, config, length));
  return shape;
}

// Cuts a sweep into jobs. Items of one layer are packed in the order of their positions.
void cut(std::size_t number, const SweepSpec& spec, const ModelConfig& config, const Pairs& pairs,
         std::vector<Job>& jobs) {
  const std::vector<std::int64_t> shape = shape_of(spec, config, pairs.length());
  const std::int64_t total =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  std::vector<std::vector<std::pair<PatchItem, std::int64_t>>> by_layer(
      static_cast<std::size_t>(config.layers));
  for (std::int64_t index = 0; index < total; ++index) {
    PatchItem item;
    std::int64_t rest = index;
    std::int64_t layer = 0;
    for (std::size_t axis = spec.axes.size(); axis-- > 0;) {
      const std::int64_t place = rest % shape[axis];
      rest /= shape[axis];
      if (spec.axes[axis] == SweepAxis::layer) layer = place;
      if (spec.axes[axis] == SweepAxis::position) item.position = place;
      if (spec.axes[axis] == SweepAxis::head) item.head = place;
    }
    by_layer[static_cast<std::size_t>(layer)].emplace_back(item, index);
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    auto& items = by_layer[static_cast<std::size_t>(layer)];
    std::ranges::stable_sort(items, {}, [](const auto& entry) {
      return std::max<std::int64_t>(entry.first.position, 0);
    });
    bool fresh = true;
    for (const auto& [item, index] : items) {
      const std::int64_t rows =
          pairs.count() * (pairs.length() - std::max<std::int64_t>(item.position, 0));
      if (fresh || jobs.back().rows + rows > rows_per_job) {
        jobs.push_back({.sweep = number, .layer = layer});
        fresh = false;
      }
      jobs.back().items.push_back(item);
      jobs.back().index.push_back(index);
      jobs.back().rows += rows;
    }
  }
}

std::string site_name(const SweepSpec& spec, int layer, const PatchItem& item) {
  SlicedSite site{.site = {spec.part, layer}};
  if (item.position >= 0) site.slice.positions = {item.position};
  if (item.head >= 0) site.slice.heads = {item.head};
  return to_string(site);
}

void check_pairs(const Model& model, const Pairs& pairs) {
  if (pairs.count() < 1 || pairs.clean.length() != pairs.corrupt.length() ||
      pairs.clean.batch() != pairs.corrupt.batch()) {
    throw Error(ErrorKind::bad_argument,
                "expected clean and corrupt prompts of the same shape; make_pairs makes them");
  }
  const std::int64_t vocab = model.config().vocab;
  for (const at::Tensor& answers : {pairs.right, pairs.wrong}) {
    if (answers.min().item<std::int64_t>() < 0 || answers.max().item<std::int64_t>() >= vocab) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("an answer is no token of the model, which has {}", vocab));
    }
  }
}

}  // namespace

PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options, const Progress& progress) {
  check_pairs(model, pairs);
  if (sweeps.empty()) throw Error(ErrorKind::bad_argument, "expected at least one sweep, got none");
  const ModelConfig& config = model.config();
  PatchReport report{.options = options};

  // The two plain runs: the unpatched one with all that branches need, the other with what is
  // pasted.
  const bool denoising = options.direction == Direction::denoising;
  const Tokens& base_tokens = denoising ? pairs.corrupt : pairs.clean;
  const Tokens& other_tokens = denoising ? pairs.clean : pairs.corrupt;
  Plan base_plan{.record = trunk_records(config), .logits = Logits::none};
  Plan other_plan{.record = {Site{Part::resid_final}}, .logits = Logits::none};
  add_start_records(sweeps, config, base_plan, other_plan);
  const Run base = run(model, base_tokens, base_plan);
  const Run other = run(model, other_tokens, other_plan);
  report.evaluations = base.evaluations + other.evaluations;
  const Trunk trunk = make_trunk(config, base.cache);
  const at::Tensor reads = pairs.reads.to(model.device());
  const Follower follower(model, trunk, reads);

  const auto at_reads = [&](const at::Tensor& stream) {
    const at::Tensor index = reads.view({-1, 1, 1}).expand({stream.size(0), 1, stream.size(2)});
    return stream.gather(1, index);  // [B, 1, d_model]
  };
  const at::Tensor base_stream = at_reads(trunk.resid_pre.back());
  const at::Tensor other_stream = at_reads(other.cache.at({Part::resid_final}));
  const MetricReader metric(options.metric, pairs, follower,
                            (denoising ? other_stream : base_stream).squeeze(1));
  const at::Tensor base_metric = metric(base_stream).squeeze(1);
  const at::Tensor other_metric = metric(other_stream).squeeze(1);
  report.clean = denoising ? other_metric : base_metric;
  report.corrupt = denoising ? base_metric : other_metric;
  report.clean_mean = bootstrap(report.clean);
  report.corrupt_mean = bootstrap(report.corrupt);
  const double from = base_metric.mean().item<double>();
  const double range = other_metric.mean().item<double>() - from;
  if (!options.raw && (range == 0.0 || !std::isfinite(range))) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("clean and corrupt runs have the mean {} {} and {}: nothing to normalise "
                    "by; ask for raw values",
                    to_string(options.metric), report.clean_mean.mean, report.corrupt_mean.mean));
  }

  std::vector<Job> jobs;
  std::vector<std::vector<std::int64_t>> shapes;
  for (std::size_t number = 0; number < sweeps.size(); ++number) {
    cut(number, sweeps[number], config, pairs, jobs);
    std::vector<std::int64_t> shape = shape_of(sweeps[number], config, pairs.length());
    const std::int64_t sites =
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    report.naive_evaluations += sites * pairs.count() * pairs.length() * config.layers;
    report.sweeps.push_back(
        {.spec = sweeps[number],
         .each = at::empty({sites, pairs.count()}, at::TensorOptions().dtype(at::kDouble))});
    shapes.push_back(std::move(shape));
  }

  const PatchStarts starts(follower, trunk, base.cache, other.cache, config);
  std::atomic<std::int64_t> evaluations{0};
  std::mutex telling;
  std::int64_t told = 0;
  parallel_pieces(static_cast<std::int64_t>(jobs.size()), model.threads(), [&](std::int64_t piece) {
    const c10::AutoGradMode no_gradients(false);
    const Job& job = jobs[static_cast<std::size_t>(piece)];
    const SweepSpec& spec = sweeps[job.sweep];
    std::int64_t made = 0;
    const std::vector<std::int64_t> counts = PatchStarts::groups(job.items);
    auto [layer, branches] = starts.make(spec.part, job.layer, job.items, made);
    const std::vector<at::Tensor> streams = follower.finish(layer, std::move(branches), made);
    std::size_t item = 0;
    for (std::size_t group = 0; group < streams.size(); ++group) {
      const at::Tensor values = metric(streams[group]).cpu();
      for (std::int64_t i = 0; i < counts[group]; ++i, ++item) {
        report.sweeps[job.sweep].each.select(0, job.index[item]).copy_(values.select(1, i));
      }
    }
    evaluations += made;
    if (progress) {
      const std::lock_guard guard(telling);
      ++told;
      progress(fmt::format("patching {}", to_string(spec)),
               static_cast<double>(told) / static_cast<double>(jobs.size()));
    }
  });
  report.evaluations += evaluations;

  for (const Job& job : jobs) {
    Sweep& sweep = report.sweeps[job.sweep];
    for (std::size_t i = 0; i < job.items.size(); ++i) {
      if (!sweep.each.select(0, job.index[i]).isfinite().all().item<bool>())
        sweep.not_finite.push_back(site_name(sweep.spec, job.layer, job.items[i]));
    }
  }
  for (std::size_t number = 0; number < sweeps.size(); ++number) {
    Sweep& sweep = report.sweeps[number];
    const at::Tensor mean = sweep.each.mean(1);
    sweep.values = (options.raw ? mean : (mean - from) / range).view(shapes[number]);
    std::vector<std::int64_t> shape = shapes[number];
    shape.push_back(pairs.count());
    sweep.each = sweep.each.view(shape);
  }
  return report;
}

}  // namespace plumb
