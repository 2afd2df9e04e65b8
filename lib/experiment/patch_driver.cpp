#include "experiment/patch_driver.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "core/parallel.h"
#include "experiment/patch_cost.h"
#include "experiment/replacements.h"
#include "experiment/tile_run.h"
#include "experiment/value_intervals.h"
#include "model/model_impl.h"
#include "plumb/error.h"
#include "plumb/hash.h"
#include "plumb/version.h"

namespace plumb {
namespace {

void append(std::string& text, const at::Tensor& values) {
  if (!values.defined()) return;
  const at::Tensor plain = values.to(at::kCPU, at::kDouble).contiguous();
  text.append(static_cast<const char*>(plain.data_ptr()), plain.nbytes());
}

void append(std::string& text, const Replacement& replacement) {
  text += fmt::format(" {} {}", to_string(replacement), replacement.seed);
  append(text, replacement.vector);
}

// All that the values depend on. The metric of the plain runs stands for the weights.
std::string fingerprint(const DrivenExperiment& asked, const PatchReport& report) {
  const Model& model = asked.model;
  const PatchOptions& options = asked.options;
  std::string text =
      fmt::format("patch {} {} {} {} {} {} {} {} {}", version(), model.name(), model.sha256(),
                  c10::toString(model.dtype()), asked.pairs.sha256, model.device().str(),
                  to_string(options.direction), to_string(options.metric), asked.what);
  append(text, options.metric.direction);
  append(text, options.replacement);
  for (const FixedEdit& edit : options.with) {
    text += " " + to_string(edit.at);
    append(text, edit.replacement);
  }
  for (const SweepSpec& sweep : asked.sweeps) {
    text += " " + to_string(sweep);
    for (const SiteSet& set : sweep.sets) {
      text += ";";
      for (const SlicedSite& site : set.sites) text += " " + to_string(site);
    }
  }
  append(text, report.clean);
  append(text, report.corrupt);
  return sha256_hex(text.data(), text.size());
}

bool needs_all_pairs(const PatchOptions& options) {
  const auto among_examples = [](const Replacement& replacement) {
    return replacement.kind == ReplacementKind::mean ||
           replacement.kind == ReplacementKind::mean_batch ||
           replacement.kind == ReplacementKind::resample;
  };
  return among_examples(options.replacement) ||
         std::ranges::any_of(options.with, among_examples, &FixedEdit::replacement);
}

// The metrics of the unpatched runs, all groups one after another.
struct Plain {
  at::Tensor from = {};  ///< [B] float64
  at::Tensor to = {};    ///< of the runs pasted from
};

// Fills in the unpatched runs' part of the report.
void tell_plain(PatchReport& report, const Plain& plain, Which base) {
  report.clean = base == Which::clean ? plain.from : plain.to;
  report.corrupt = base == Which::clean ? plain.to : plain.from;
  report.clean_mean = bootstrap(report.clean);
  report.corrupt_mean = bootstrap(report.corrupt);
  const double range = plain.to.mean().item<double>() - plain.from.mean().item<double>();
  if (report.paired && !report.options.raw && (range == 0.0 || !std::isfinite(range))) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("clean and corrupt runs have the mean {} {} and {}: nothing to "
                            "normalise by; ask for raw values",
                            to_string(report.options.metric), report.clean_mean.mean,
                            report.corrupt_mean.mean));
  }
}

void tell_values(Sweep& sweep, const PatchReport& report, const Plain& plain,
                 std::vector<std::int64_t> shape) {
  const PatchOptions& options = report.options;
  const double from = plain.from.mean().item<double>();
  const double range = plain.to.mean().item<double>() - from;
  const at::Tensor mean = sweep.each.mean(1);
  sweep.values = options.raw ? mean : report.paired ? (mean - from) / range : mean - from;
  sweep.values = sweep.values.view(shape);
  if (options.intervals) {
    const at::Tensor none;
    const auto [low, high] = value_intervals(sweep.each, options.raw ? none : plain.from,
                                             options.raw || !report.paired ? none : plain.to);
    sweep.low = low.view(shape);
    sweep.high = high.view(shape);
  }
  shape.push_back(sweep.each.size(1));
  sweep.each = sweep.each.view(shape);
}

// The sweeps of the report, from the values of the jobs.
void tell_sweeps(PatchReport& report, const DrivenExperiment& asked, const Plain& plain,
                 std::int64_t T, const std::vector<PairRange>& groups,
                 const std::vector<PatchJob>& jobs, const std::vector<at::Tensor>& values) {
  const ModelConfig& config = asked.model.config();
  const std::int64_t B = asked.pairs.count();
  std::vector<std::vector<std::int64_t>> shapes;
  for (const SweepSpec& spec : asked.sweeps) {
    shapes.push_back(sweep_shape(spec, config, T));
    const std::int64_t sites = std::accumulate(shapes.back().begin(), shapes.back().end(),
                                               std::int64_t{1}, std::multiplies<>());
    report.naive_evaluations += sites * B * T * depth_of(asked.options, config) * asked.naive_runs;
    Sweep sweep{.spec = spec, .each = at::full({sites, B}, std::nan(""), at::kDouble)};
    if (spec.sets.empty() && per_layer(spec.part)) {
      for (int layer = 0; layer < config.layers; ++layer) {
        if (!has_part(config, spec.part, layer)) sweep.absent.push_back(layer);
      }
    }
    report.sweeps.push_back(std::move(sweep));
  }
  for (std::size_t number = 0; number < jobs.size(); ++number) {
    const PatchJob& job = jobs[number];
    const PairRange range = groups[job.group];
    Sweep& sweep = report.sweeps[job.sweep];
    const at::Tensor found = values[number].view({-1, range.count});
    for (std::size_t i = 0; i < job.items.size(); ++i) {
      const at::Tensor row = found[static_cast<std::int64_t>(i)];
      sweep.each[job.items[i].index].narrow(0, range.first, range.count).copy_(row);
      if (row.isfinite().all().item<bool>()) continue;
      const std::string name = name_of(sweep.spec, job.layer, job.items[i]);
      if (std::ranges::find(sweep.not_finite, name) == sweep.not_finite.end())
        sweep.not_finite.push_back(name);
    }
  }
  for (std::size_t number = 0; number < report.sweeps.size(); ++number)
    tell_values(report.sweeps[number], report, plain, shapes[number]);
}

std::vector<PairRange> groups_of(const DrivenExperiment& asked) {
  const Which base = base_of(asked.pairs, asked.options.direction);
  return pair_groups(asked.pairs.count(), tokens_of(asked.pairs, base).length(),
                     needs_all_pairs(asked.options));
}

}  // namespace

RunCost foresee_cost(const DrivenExperiment& asked) {
  const Which base = base_of(asked.pairs, asked.options.direction);
  const std::vector<PairRange> groups = groups_of(asked);
  const PatchCost cost = foresee(
      asked, groups,
      cut_jobs(asked.sweeps, asked.model.config(), groups, tokens_of(asked.pairs, base).length()));
  return as_run(cost, jobs_at_once(cost, asked.model));
}

PatchReport drive(const DrivenExperiment& asked, const Progress& progress, const Tiles& tiles) {
  const Pairs& pairs = asked.pairs;
  PatchReport report{.options = asked.options, .paired = pairs.paired};
  const Which base = base_of(pairs, asked.options.direction);
  const std::int64_t T = tokens_of(pairs, base).length();
  const std::vector<PairRange> groups = groups_of(asked);
  const std::vector<PatchJob> jobs = cut_jobs(asked.sweeps, asked.model.config(), groups, T);
  const PatchCost cost = asked.one_at_a_time ? PatchCost() : foresee(asked, groups, jobs);
  const int at_once = asked.one_at_a_time ? 1 : jobs_at_once(cost, asked.model);
  const Model::Impl::Reserved values(asked.model, cost.value_bytes);
  std::unique_ptr<PatchGroup> group;  // the plain runs of one group at a time are held
  std::size_t held = 0;
  const auto hold = [&](std::size_t number) {
    if (group != nullptr && held == number) return;
    group.reset();
    group = asked.make_group(groups[number]);
    held = number;
    report.evaluations += group->experiment().evaluations();
  };
  std::vector<at::Tensor> from;
  std::vector<at::Tensor> to;
  for (std::size_t number = 0; number < groups.size(); ++number) {
    hold(number);
    from.push_back(group->experiment().base_metric());
    to.push_back(group->experiment().other_metric());
  }
  const Plain plain{.from = at::cat(from), .to = at::cat(to)};
  tell_plain(report, plain, base);

  TileLayout layout;
  if (tiles.store != nullptr) layout.experiment = fingerprint(asked, report);
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
    const auto work = [&](std::int64_t i) {
      const c10::AutoGradMode no_gradients(false);
      const std::int64_t tile = mine[static_cast<std::size_t>(i)];
      const PatchJob& job = jobs[static_cast<std::size_t>(tile)];
      std::int64_t made = 0;
      run.done(tile, group->values(job, made),
               fmt::format("patching {}", to_string(asked.sweeps[job.sweep])));
      evaluations += made;
    };
    const auto count = static_cast<std::int64_t>(mine.size());
    if (asked.one_at_a_time) {
      for (std::int64_t i = 0; i < count; ++i) work(i);
      continue;
    }
    RunCost working = as_run(cost, at_once);
    working.result_bytes = cost.held_bytes;
    asked.model.impl().make_room(working);
    parallel_pieces(count, at_once, work);
  }
  report.evaluations += evaluations;
  tell_sweeps(report, asked, plain, T, groups, jobs, run.finish());
  return report;
}

}  // namespace plumb
