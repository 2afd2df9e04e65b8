#include "plumb/patch.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>

#include "core/parallel.h"
#include "experiment/patch_group.h"
#include "experiment/patch_jobs.h"
#include "experiment/tile_run.h"
#include "plumb/error.h"
#include "plumb/hash.h"
#include "plumb/version.h"

namespace plumb {
namespace {

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

// All that the values depend on. The metric of the plain runs stands for the weights.
std::string fingerprint(const Model& model, const Pairs& pairs,
                        const std::vector<SweepSpec>& sweeps, const PatchReport& report) {
  std::string text =
      fmt::format("patch {} {} {} {} {} {} {} {}", version(), model.name(), model.sha256(),
                  c10::toString(model.dtype()), pairs.sha256, model.device().str(),
                  to_string(report.options.direction), to_string(report.options.metric));
  for (const SweepSpec& sweep : sweeps) text += " " + to_string(sweep);
  for (const at::Tensor& metric : {report.clean, report.corrupt}) {
    const at::Tensor values = metric.contiguous();
    text.append(static_cast<const char*>(values.data_ptr()), values.nbytes());
  }
  return sha256_hex(text.data(), text.size());
}

struct Plain {
  double from = 0;   ///< mean metric of the unpatched runs
  double range = 0;  ///< from there to that of the runs pasted from
};

// Fills in the plain runs' part of the report from their metrics.
Plain tell_plain(PatchReport& report, const std::vector<at::Tensor>& base,
                 const std::vector<at::Tensor>& other) {
  const PatchOptions& options = report.options;
  const bool denoising = options.direction == Direction::denoising;
  report.clean = at::cat(denoising ? other : base);
  report.corrupt = at::cat(denoising ? base : other);
  report.clean_mean = bootstrap(report.clean);
  report.corrupt_mean = bootstrap(report.corrupt);
  const double from = at::cat(base).mean().item<double>();
  const double range = at::cat(other).mean().item<double>() - from;
  if (!options.raw && (range == 0.0 || !std::isfinite(range))) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("clean and corrupt runs have the mean {} {} and {}: nothing to normalise "
                    "by; ask for raw values",
                    to_string(options.metric), report.clean_mean.mean, report.corrupt_mean.mean));
  }
  return {.from = from, .range = range};
}

// The sweeps of the report, from the values of the jobs.
void tell_sweeps(PatchReport& report, const std::vector<SweepSpec>& sweeps, const Plain& plain,
                 const ModelConfig& config, const Pairs& pairs,
                 const std::vector<PairRange>& groups, const std::vector<PatchJob>& jobs,
                 const std::vector<at::Tensor>& values) {
  std::vector<std::vector<std::int64_t>> shapes;
  for (const SweepSpec& spec : sweeps) {
    shapes.push_back(sweep_shape(spec, config, pairs.length()));
    const std::int64_t sites = std::accumulate(shapes.back().begin(), shapes.back().end(),
                                               std::int64_t{1}, std::multiplies<>());
    report.naive_evaluations += sites * pairs.count() * pairs.length() * config.layers;
    report.sweeps.push_back({.spec = spec, .each = at::empty({sites, pairs.count()}, at::kDouble)});
  }
  for (std::size_t number = 0; number < jobs.size(); ++number) {
    const PatchJob& job = jobs[number];
    const PairRange range = groups[job.group];
    Sweep& sweep = report.sweeps[job.sweep];
    const at::Tensor found = values[number].view({-1, range.count});
    for (std::size_t i = 0; i < job.items.size(); ++i) {
      const at::Tensor row = found[static_cast<std::int64_t>(i)];
      sweep.each[job.index[i]].narrow(0, range.first, range.count).copy_(row);
      if (row.isfinite().all().item<bool>()) continue;
      const std::string name = site_name(sweep.spec, job.layer, job.items[i]);
      if (std::ranges::find(sweep.not_finite, name) == sweep.not_finite.end())
        sweep.not_finite.push_back(name);
    }
  }
  for (std::size_t number = 0; number < sweeps.size(); ++number) {
    Sweep& sweep = report.sweeps[number];
    const at::Tensor mean = sweep.each.mean(1);
    sweep.values =
        (report.options.raw ? mean : (mean - plain.from) / plain.range).view(shapes[number]);
    std::vector<std::int64_t> shape = shapes[number];
    shape.push_back(pairs.count());
    sweep.each = sweep.each.view(shape);
  }
}

}  // namespace

PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options, const Progress& progress, const Tiles& tiles) {
  check_pairs(model, pairs);
  if (sweeps.empty()) throw Error(ErrorKind::bad_argument, "expected at least one sweep, got none");
  const ModelConfig& config = model.config();
  PatchReport report{.options = options};

  const std::vector<PairRange> groups = pair_groups(pairs.count(), pairs.length());
  std::unique_ptr<PatchGroup> group;  // the plain runs of one group at a time are held
  std::size_t held = 0;
  const auto hold = [&](std::size_t number) {
    if (group != nullptr && held == number) return;
    group.reset();
    group = std::make_unique<PatchGroup>(model, pairs, groups[number], sweeps, options);
    held = number;
    report.evaluations += group->evaluations();
  };
  std::vector<at::Tensor> base_metric;
  std::vector<at::Tensor> other_metric;
  for (std::size_t number = 0; number < groups.size(); ++number) {
    hold(number);
    base_metric.push_back(group->base_metric());
    other_metric.push_back(group->other_metric());
  }
  const Plain plain = tell_plain(report, base_metric, other_metric);

  const std::vector<PatchJob> jobs = patch_jobs(sweeps, config, groups, pairs.length());
  TileLayout layout{.experiment = fingerprint(model, pairs, sweeps, report)};
  for (const PatchJob& job : jobs)
    layout.sizes.push_back(static_cast<std::int64_t>(job.items.size()) * groups[job.group].count);
  TileRun run(std::move(layout), tiles, progress);
  std::atomic<std::int64_t> evaluations{0};
  auto next = jobs.begin();
  for (std::size_t number = 0; number < groups.size(); ++number) {
    const auto first = next - jobs.begin();
    next = std::ranges::find_if(next, jobs.end(),
                                [&](const PatchJob& job) { return job.group != number; });
    const std::vector<std::int64_t> mine = run.mine(first, next - jobs.begin());
    if (mine.empty()) continue;
    hold(number);
    parallel_pieces(static_cast<std::int64_t>(mine.size()), model.threads(), [&](std::int64_t i) {
      const std::int64_t tile = mine[static_cast<std::size_t>(i)];
      const PatchJob& job = jobs[static_cast<std::size_t>(tile)];
      const SweepSpec& spec = sweeps[job.sweep];
      std::int64_t made = 0;
      run.done(tile, group->values(spec.part, job, made),
               fmt::format("patching {}", to_string(spec)));
      evaluations += made;
    });
  }
  report.evaluations += evaluations;
  tell_sweeps(report, sweeps, plain, config, pairs, groups, jobs, run.finish());
  return report;
}

}  // namespace plumb
