#include "experiment/patch_cost.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/precision.h"
#include "experiment/replacements.h"
#include "model/block_cost.h"
#include "model/model_impl.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Stored bytes that a thread has mapped while it converts them, and its buffer of the BLAS.
constexpr std::int64_t thread_bytes = 20'000'000;

bool among(Part part, std::initializer_list<Part> parts) {
  return std::ranges::count(parts, part) > 0;
}

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

// The unpatched runs of the largest group.
void add_plain(const DrivenExperiment& asked, const std::vector<PairRange>& groups,
               PatchCost& cost) {
  const Model& model = asked.model;
  const ModelConfig& config = model.config();
  const PatchOptions& options = asked.options;
  const Pairs& pairs = asked.pairs;
  const Which base_which = base_of(pairs, options.direction);
  const Which other_which = base_which == Which::clean ? Which::corrupt : Which::clean;
  const std::vector<Site> none;
  const bool pastes = Replacements::needs_other(options.replacement);
  PlainPlans plans = plain_plans(config, options, asked.records, pastes ? asked.sites : none);
  for (const Record& record : trunk_records(config, depth_of(options, config))) {
    if (std::ranges::count(plans.base.record, record.site, &Record::site) == 0)
      plans.base.record.push_back(record);
  }
  const PlainPlans fixed = fixed_plans(config, options);
  std::int64_t evaluations = 0;
  for (const PairRange range : groups) {
    const auto of = [&](const Plan& plan, Which which) {
      return foresee(model, range.count, tokens_of(pairs, which).length(), plan);
    };
    const RunCost base = of(plans.base, base_which);
    const RunCost other = pairs.paired ? of(plans.other, other_which) : RunCost();
    evaluations += base.evaluations + other.evaluations;
    std::int64_t kept = 0;
    std::int64_t making = 0;
    if (!fixed.base.record.empty()) {
      const RunCost run = of(fixed.base, base_which);
      evaluations += run.evaluations;
      making = run.activation_bytes + run.result_bytes;
      kept += run.result_bytes;
    }
    if (!fixed.other.record.empty()) {
      const RunCost run = of(fixed.other, other_which);
      evaluations += run.evaluations;
      making = std::max(making, kept + run.activation_bytes + run.result_bytes);
      kept += run.result_bytes;
    }
    making = std::max(making, kept + base.activation_bytes + base.result_bytes);
    kept += base.result_bytes;
    making = std::max(making, kept + other.activation_bytes + other.result_bytes);
    std::int64_t copied = 0;  // values that are moved to other positions or examples
    if ((pastes && pairs.to_clean.defined()) ||
        options.replacement.kind == ReplacementKind::resample) {
      for (const Site& site : asked.sites) {
        copied += number_bytes(model) *
                  elements(shape_of(config, range.count, tokens_of(pairs, base_which).length(),
                                    {.site = site}));
      }
    }
    const bool compares = options.metric.kind == MetricKind::kl ||
                          options.metric.kind == MetricKind::reverse_kl ||
                          options.metric.kind == MetricKind::js;
    const auto double_bytes = static_cast<std::int64_t>(sizeof(double));
    if (compares) kept += range.count * config.vocab * double_bytes;
    making =
        std::max(making, kept + other.result_bytes + copied + metric_bytes(options.metric, model));
    kept += pairs.to_clean.defined() ? copied : other.result_bytes + copied;
    cost.making_bytes = std::max(cost.making_bytes, making);
    cost.held_bytes = std::max(cost.held_bytes, kept);
    for (std::int64_t RunCost::*bytes :
         {&RunCost::weight_bytes, &RunCost::block_bytes, &RunCost::tensor_bytes})
      cost.weights.*bytes = std::max(cost.weights.*bytes, base.*bytes);
  }
  // Of several groups, the unpatched runs are made once for their metrics, and again for the jobs.
  cost.evaluations += (groups.size() > 1 ? 2 : 1) * evaluations;
}

// The unembedding, as far as the metric reads it.
void add_unembedding(const DrivenExperiment& asked, PatchCost& cost) {
  const ModelConfig& config = asked.model.config();
  const auto bytes = static_cast<std::int64_t>(at::elementSize(asked.model.dtype()));
  const std::int64_t row = bytes * config.d_model;
  if (reads_block(asked.options.metric)) return;
  if (asked.options.metric.kind == MetricKind::logit_diff) {
    cost.weights.weight_bytes +=
        row * std::min<std::int64_t>(2 * asked.pairs.count(), config.vocab);
    return;
  }
  cost.weights.weight_bytes += row * config.vocab;
  cost.weights.tensor_bytes = std::max(cost.weights.tensor_bytes, row * config.vocab);
}

}  // namespace

std::int64_t number_bytes(const Model& model) {
  return static_cast<std::int64_t>(at::elementSize(sum_type(model.dtype())));
}

std::int64_t metric_bytes(const Metric& metric, const Model& model) {
  // Of each logit of the rows that are read together: itself, and float64 numbers made of it.
  const auto of_logits = [&](std::int64_t doubles) {
    return metric_rows_at_once * model.config().vocab *
           (number_bytes(model) + doubles * static_cast<std::int64_t>(sizeof(double)));
  };
  switch (metric.kind) {
    case MetricKind::log_prob:
    case MetricKind::prob:
    case MetricKind::prob_diff:
    case MetricKind::loss: return of_logits(2);
    case MetricKind::rank:
    case MetricKind::custom: return of_logits(1);
    case MetricKind::kl:
    case MetricKind::reverse_kl: return of_logits(7);
    case MetricKind::js: return of_logits(8);
    default: return 0;
  }
}

std::int64_t block_elements(const ModelConfig& config, std::int64_t rows, std::int64_t scores,
                            bool head_out, bool expert_out) {
  std::int64_t most = attention_elements(config, rows, scores, head_out);
  for (int layer = 0; layer < config.layers; ++layer)
    most = std::max(most, mlp_elements(config, layer, rows, expert_out));
  return most;
}

JobCost job_cost(const Model& model, const PatchRoutes& routes, const PatchOptions& options,
                 const SweepSpec& spec, const PatchJob& job, std::int64_t pairs, std::int64_t T) {
  const ModelConfig& config = model.config();
  const std::int64_t d = config.d_model;
  const std::int64_t whole = pairs * T;  // rows of one item's whole sequences
  const auto items = static_cast<std::int64_t>(job.items.size());
  if (routes.too_late(spec, job)) return {};
  std::vector<Part> parts;
  for (const PatchItem& item : job.items) {
    for (const SlicedSite& site : sites_of(spec, job.layer, item)) parts.push_back(site.site.part);
    if (spec.sets.empty()) break;
  }
  const auto patches = [&](Part part) { return std::ranges::count(parts, part) > 0; };
  const std::int64_t scores = 2 * config.heads * T;
  // A site that is read or edited is there a second time.
  const auto under_tap = [&](std::int64_t rows) {
    const std::int64_t wide = std::max<std::int64_t>(
        {scores / 2, d, config.d_mlp, std::int64_t{config.heads} * config.d_head});
    return rows * (2 * d + wide) + block_elements(config, rows, scores * rows,
                                                  patches(Part::head_out),
                                                  patches(Part::expert_out));
  };

  JobCost cost;
  if (routes.reads_on_the_way(spec, job)) {
    cost.evaluations = items * whole * (routes.depth() - job.layer);
    cost.bytes = number_bytes(model) * under_tap(whole);
    return cost;
  }
  const int enter = routes.entry(spec, job);
  std::int64_t making = 0;  // elements, beside the branches
  switch (routes.way(spec, job.layer)) {
    case Way::none:
      cost.evaluations += items * whole * (enter - job.layer);
      making = job.rows * d + under_tap(whole);
      break;
    case Way::mid:
    case Way::stream: {
      std::int64_t rows = 0;
      const bool seen = spec.part == Part::k || spec.part == Part::v;  // by later queries
      for (const PatchItem& item : job.items)
        rows += item.position < 0 ? whole : seen ? pairs * (T - item.position) : pairs;
      const std::int64_t z = std::int64_t{config.heads} * config.d_head;
      making = rows * 3 * d;
      if (routes.way(spec, job.layer) == Way::mid) {
        if (!config.parallel) cost.evaluations += rows;
        making += std::max(
            block_elements(config, rows, 0, false, false),
            whole * (4 * z + (patches(Part::head_out) ? config.heads * d : 0) +
                     (among(spec.part, {Part::scores, Part::pattern, Part::q, Part::k, Part::v})
                          ? 3 * config.heads * T
                          : 0)));
      }
      break;
    }
  }
  std::int64_t widest = 0;  // branch
  std::size_t first = 0;
  for (const std::int64_t n : branch_sizes(job.items)) {
    const std::int64_t own = n * pairs * (T - job.items[first].from);
    widest = std::max(widest, own);
    first += static_cast<std::size_t>(n);
    if (reads_block(options.metric)) cost.evaluations += n * whole;
  }
  const int blocks = reads_block(options.metric) ? routes.depth() - 1 : config.layers;
  cost.evaluations += job.rows * std::max(0, blocks - enter);
  std::int64_t following =
      job.rows * d + block_elements(config, job.rows, 3 * config.heads * T * widest, false, false);
  if (reads_block(options.metric))
    following = std::max(following, under_tap(whole * std::min(items, streams_at_once(pairs, T))));
  cost.bytes = number_bytes(model) * (2 * job.rows * d + std::max(making, following)) +
               metric_bytes(options.metric, model);
  return cost;
}

PatchCost foresee(const DrivenExperiment& asked, const std::vector<PairRange>& groups,
                  const std::vector<PatchJob>& jobs) {
  PatchCost cost;
  add_plain(asked, groups, cost);
  add_unembedding(asked, cost);
  std::vector<std::int64_t> counts(groups.size(), 0);
  for (const PatchJob& job : jobs) {
    const std::int64_t pairs = groups[job.group].count;
    const JobCost own = asked.job_cost(job, pairs);
    cost.evaluations += own.evaluations;
    cost.job_bytes = std::max(cost.job_bytes, own.bytes);
    ++counts[job.group];
    const auto items = static_cast<std::int64_t>(job.items.size());
    // Values lie in their tiles, then in their sweep too.
    cost.value_bytes += items * (static_cast<std::int64_t>(sizeof(PatchItem)) +
                                 2 * pairs * static_cast<std::int64_t>(sizeof(double)));
  }
  cost.jobs = counts.empty() ? 0 : *std::ranges::max_element(counts);
  return cost;
}

RunCost as_run(const PatchCost& cost, int jobs_at_once) {
  RunCost run = cost.weights;
  run.evaluations = cost.evaluations;
  run.result_bytes = cost.held_bytes + cost.value_bytes;
  const std::int64_t working = jobs_at_once * (cost.job_bytes + thread_bytes);
  run.activation_bytes = std::max(working, cost.making_bytes - cost.held_bytes);
  return run;
}

int jobs_at_once(const PatchCost& cost, const Model& model) {
  const auto threads =
      static_cast<int>(std::clamp<std::int64_t>(cost.jobs, 1, std::max(1, model.threads())));
  if (model.memory() == 0 || !model.impl().checkpoint) return threads;
  const std::int64_t program = model.impl().program_bytes();
  const auto others = [&](int jobs) {
    const RunCost run = as_run(cost, jobs);
    return program + run.result_bytes + run.activation_bytes;
  };
  const RunCost& weights = cost.weights;
  for (int jobs = threads; jobs > 1; --jobs) {
    // Each in a block of its own.
    const std::int64_t wanted =
        std::min(weights.weight_bytes, jobs * std::max(weights.block_bytes, weights.tensor_bytes));
    if (model.memory() - others(jobs) >= wanted) return jobs;
  }
  const std::int64_t needed = others(1) + weights.tensor_bytes;
  if (model.memory() >= needed) return 1;
  constexpr double giga = 1e9;
  throw Error(
      ErrorKind::too_large,
      fmt::format("{:.2f} GB of memory are too few, at least {:.2f} GB are needed: what the "
                  "unpatched runs leave and the values take {:.2f} GB, what is computed {:.2f} GB, "
                  "the largest weight {:.2f} GB, the program {:.2f} GB; allow more, or patch "
                  "fewer sites at a time in shorter prompts",
                  static_cast<double>(model.memory()) / giga, static_cast<double>(needed) / giga,
                  static_cast<double>(as_run(cost, 1).result_bytes) / giga,
                  static_cast<double>(as_run(cost, 1).activation_bytes) / giga,
                  static_cast<double>(weights.tensor_bytes) / giga,
                  static_cast<double>(program) / giga));
}

}  // namespace plumb
