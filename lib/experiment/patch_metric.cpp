#include "experiment/patch_metric.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "experiment/patch_jobs.h"
#include "model/follow.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const Metric& metric, const std::string& what) {
  throw Error(ErrorKind::bad_argument, fmt::format("metric {}: {}", to_string(metric), what));
}

bool asks_for_answers(MetricKind kind) {
  switch (kind) {
    case MetricKind::logit_diff:
    case MetricKind::log_prob:
    case MetricKind::prob:
    case MetricKind::prob_diff:
    case MetricKind::rank: return true;
    default: return false;
  }
}

bool compares(MetricKind kind) {
  return kind == MetricKind::kl || kind == MetricKind::reverse_kl || kind == MetricKind::js;
}

at::Tensor log_probs(const at::Tensor& logits) {
  return at::log_softmax(logits.to(at::kDouble), -1);
}

// [B, n]: -1 where a pair has fewer.
at::Tensor all_answers(const Pairs& pairs, bool right) {
  const at::Tensor first = (right ? pairs.right : pairs.wrong).unsqueeze(1);
  const at::Tensor& more = right ? pairs.also_right : pairs.also_wrong;
  return more.defined() ? at::cat({first, more}, 1) : first;
}

// KL(p || q) of rows of log-probabilities. What p excludes counts nothing.
at::Tensor divergence(const at::Tensor& p, const at::Tensor& q) {
  const at::Tensor weight = p.exp();
  return at::where(weight > 0, weight * (p - q), at::zeros_like(weight)).sum(-1);
}

// Of rows [n, vocab] those of the ids [n, m], `none` where an id is -1.
at::Tensor at_ids(const at::Tensor& rows, const at::Tensor& ids, double none) {
  return rows.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, none);
}

void check_site(const Metric& metric, const Pairs& pairs, const ModelConfig& config) {
  const Site& site = metric.site.site;
  const Slice& slice = metric.site.slice;
  if (!per_layer(site.part))
    refuse(metric, "expected a site of a block; resid_post of the last block is the final stream");
  if (site.layer >= config.layers || !has_part(config, site.part, site.layer))
    refuse(metric, fmt::format("the model has no {}", to_string(site)));
  if (metric.kind == MetricKind::attention &&
      (site.part != Part::pattern || slice.keys.empty() || !slice.units.empty()))
    refuse(metric, "expected a pattern and its keys, like attention:L5.pattern[k=0]");
  if (metric.kind != MetricKind::attention &&
      (site.part == Part::pattern || site.part == Part::scores))
    refuse(metric, "rows of scores and patterns have no such number; attention: reads patterns");
  const std::int64_t T = std::min(pairs.clean.length(), pairs.corrupt.length());
  const std::int64_t width = axis_size(axes(site.part).back(), config, T);
  const auto within = [&](const std::vector<std::int64_t>& list, Axis axis) {
    const std::int64_t size = axis_size(axis, config, T);
    for (const std::int64_t index : list) {
      if (index < 0 || index >= size)
        refuse(metric, fmt::format("there are {} entries on the axis {}, so {} does not exist",
                                   size, to_string(axis), index));
    }
  };
  for (const Axis axis : axes(site.part)) {
    if (axis == Axis::head || axis == Axis::kv_head) within(slice.heads, axis);
    if (axis == Axis::position || axis == Axis::query) within(slice.positions, axis);
    if (axis == Axis::key) within(slice.keys, axis);
    if (axis == Axis::expert) within(slice.experts, axis);
  }
  if (metric.kind != MetricKind::attention) within(slice.units, axes(site.part).back());
  if (metric.kind == MetricKind::projection) {
    const std::int64_t wanted =
        slice.units.empty() ? width : static_cast<std::int64_t>(slice.units.size());
    if (!metric.direction.defined() || metric.direction.dim() != 1 ||
        metric.direction.size(0) != wanted || metric.direction.norm().item<double>() == 0.0)
      refuse(metric, fmt::format("expected a direction of {} numbers, not all 0", wanted));
  }
  const std::int64_t furthest =
      slice.positions.empty()
          ? (metric.kind == MetricKind::attention ? *std::ranges::max_element(slice.keys) + 1 : 0)
          : *std::ranges::max_element(slice.positions);
  for (const Which which : {Which::clean, Which::corrupt}) {
    const at::Tensor lengths = lengths_of(pairs, which);
    for (std::int64_t b = 0; b < lengths.size(0); ++b) {
      if (const auto length = lengths[b].item<std::int64_t>(); length <= furthest)
        refuse(metric, fmt::format("it reads position {}, but a prompt of pair {} has {} tokens",
                                   furthest, b + 1, length));
    }
  }
}

}  // namespace

const Tokens& tokens_of(const Pairs& pairs, Which which) {
  return which == Which::clean ? pairs.clean : pairs.corrupt;
}

at::Tensor lengths_of(const Pairs& pairs, Which which) {
  return (which == Which::clean ? pairs.reads : pairs.corrupt_reads) + 1;
}

void check_metric(const Metric& metric, const Pairs& pairs, const ModelConfig& config) {
  if (metric.kind == MetricKind::custom && !metric.custom)
    refuse(metric, "a custom metric needs its function");
  if (asks_for_answers(metric.kind)) {
    if (!pairs.answered) refuse(metric, "the prompts have no answers");
    for (const at::Tensor& answers : {all_answers(pairs, true), all_answers(pairs, false)}) {
      if (answers.select(1, 0).min().item<std::int64_t>() < 0 ||
          answers.max().item<std::int64_t>() >= config.vocab)
        refuse(metric,
               fmt::format("an answer is no token of the model, which has {}", config.vocab));
    }
  }
  if (reads_block(metric)) check_site(metric, pairs, config);
}

ReadPlan read_plan(const Metric& metric, const Pairs& pairs, Which which) {
  const at::Tensor last = lengths_of(pairs, which) - 1;
  const auto B = last.size(0);
  if (metric.kind != MetricKind::loss) {
    return {.positions = last.view({B, 1}),
            .weights = at::ones({B, 1}, at::kDouble),
            .targets = at::zeros({B, 1}, at::kLong)};
  }
  if (which == Which::corrupt && pairs.to_clean.defined()) {
    refuse(metric,
           "it counts the clean prompt's next tokens position by position, and a map moves "
           "positions");
  }
  const std::int64_t T = tokens_of(pairs, which).length();
  const at::Tensor wanted = metric.positions.empty() ? at::arange(std::max<std::int64_t>(T - 1, 1))
                                                     : at::tensor(metric.positions, at::kLong);
  const at::Tensor counted = wanted.unsqueeze(0) < last.unsqueeze(1);  // has a next token
  for (std::int64_t b = 0; b < B; ++b) {
    const at::Tensor own = counted[b];
    if (metric.positions.empty() ? own.any().item<bool>() : own.all().item<bool>()) continue;
    refuse(metric,
           fmt::format("the clean prompt of pair {} has {} tokens: not every position asked "
                       "for has a next one",
                       b + 1, last[b].item<std::int64_t>() + 1));
  }
  const at::Tensor places =
      at::minimum(wanted.unsqueeze(0).expand({B, wanted.size(0)}), last.unsqueeze(1));
  const at::Tensor next = (places + 1).clamp_max(pairs.clean.length() - 1);
  return {.positions = places,
          .weights = counted.to(at::kDouble),
          .targets = pairs.clean.ids.gather(1, next)};
}

Readout readout_of(const Follower& follower) {
  return {
      .logits = [&follower](const at::Tensor& rows) { return follower.logits(rows); },
      .logits_of = [&follower](const at::Tensor& rows,
                               const at::Tensor& ids) { return follower.logits_of(rows, ids); }};
}

LogitMetric::LogitMetric(const Metric& metric, const Pairs& pairs, Readout readout,
                         std::int64_t first)
    : metric_(metric), readout_(std::move(readout)), first_(first) {
  if (!pairs.answered) return;
  rights_ = all_answers(pairs, true);
  wrongs_ = all_answers(pairs, false);
}

void LogitMetric::compare_with(const at::Tensor& clean) {
  if (compares(metric_.kind))
    clean_log_probs_ = log_probs(readout_.logits(clean.reshape({clean.size(0), clean.size(-1)})));
}

// Of single answers, only their rows of the unembedding are read.
at::Tensor LogitMetric::logit_diff(const at::Tensor& rows, const at::Tensor& pair) const {
  const at::Tensor right = rights_.to(rows.device()).index_select(0, pair);
  const at::Tensor wrong = wrongs_.to(rows.device()).index_select(0, pair);
  const at::Tensor ids = at::cat({right, wrong}, 1);
  const at::Tensor known = ids >= 0;
  const at::Tensor logits =
      readout_.logits_of(rows, ids.clamp_min(0)).to(at::kDouble).masked_fill(ids < 0, 0.0);
  const auto mean = [&](std::int64_t first, std::int64_t count) {
    return logits.narrow(1, first, count).sum(1) /
           known.narrow(1, first, count).to(at::kDouble).sum(1);
  };
  return mean(0, right.size(1)) - mean(right.size(1), wrong.size(1));
}

at::Tensor LogitMetric::of_rows(const at::Tensor& rows, const at::Tensor& pair,
                                const at::Tensor& target) const {
  if (metric_.kind == MetricKind::logit_diff) return logit_diff(rows, pair);
  const at::Tensor logits = readout_.logits(rows);
  const double none = -std::numeric_limits<double>::infinity();
  const auto rights = [&] { return rights_.to(rows.device()).index_select(0, pair); };
  const auto share = [&](const at::Tensor& answers) {
    return at_ids(log_probs(logits), answers, none).logsumexp({1});
  };
  switch (metric_.kind) {
    case MetricKind::custom: {
      const at::Tensor values = metric_.custom(logits, pair + first_);
      if (!values.defined() || values.dim() != 1 || values.size(0) != logits.size(0)) {
        throw Error(ErrorKind::bad_shape,
                    fmt::format("the metric \"{}\" must return one value for each of its {} rows",
                                to_string(metric_), logits.size(0)));
      }
      return values.to(at::kDouble);
    }
    case MetricKind::rank:
      return logits.gt(at_ids(logits, rights(), none).amax(1, true)).sum(-1).to(at::kDouble);
    case MetricKind::log_prob: return share(rights());
    case MetricKind::prob: return share(rights()).exp();
    case MetricKind::prob_diff:
      return share(rights()).exp() - share(wrongs_.to(rows.device()).index_select(0, pair)).exp();
    case MetricKind::loss: return -log_probs(logits).gather(1, target.unsqueeze(1)).squeeze(1);
    case MetricKind::kl:
      return divergence(clean_log_probs_.index_select(0, pair), log_probs(logits));
    case MetricKind::reverse_kl:
      return divergence(log_probs(logits), clean_log_probs_.index_select(0, pair));
    case MetricKind::js: {
      const at::Tensor p = clean_log_probs_.index_select(0, pair);
      const at::Tensor q = log_probs(logits);
      const at::Tensor middle = at::logaddexp(p, q) - std::log(2.0);
      return 0.5 * (divergence(p, middle) + divergence(q, middle));
    }
    default: break;
  }
  throw Error(ErrorKind::internal, "a metric of a site was asked of the logits");
}

at::Tensor LogitMetric::operator()(const at::Tensor& kept, const ReadPlan& reads) const {
  const auto B = kept.size(0);
  const auto n = kept.size(1);
  const auto P = kept.size(2);
  const at::Tensor rows = kept.reshape({B * n * P, kept.size(3)});
  const at::Tensor pair = at::arange(B, kept.options().dtype(at::kLong)).repeat_interleave(n * P);
  const at::Tensor target =
      reads.targets.to(kept.device()).unsqueeze(1).expand({B, n, P}).reshape({-1});
  std::vector<at::Tensor> values;
  for (std::int64_t first = 0; first < rows.size(0); first += metric_rows_at_once) {
    const auto count = std::min(metric_rows_at_once, rows.size(0) - first);
    values.push_back(of_rows(rows.narrow(0, first, count), pair.narrow(0, first, count),
                             target.narrow(0, first, count)));
  }
  const at::Tensor each = at::cat(values, 0).view({B, n, P});
  if (P == 1) return each.squeeze(2);
  const at::Tensor weights = reads.weights.to(kept.device()).unsqueeze(1);
  return at::where(weights > 0, each, at::zeros_like(each)).sum(2) / weights.sum(2);
}

}  // namespace plumb
