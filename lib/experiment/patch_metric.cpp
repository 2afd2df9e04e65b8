#include "experiment/patch_metric.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "plumb/error.h"

namespace plumb {
namespace {

// Rows of logits held at once: a vocabulary is wide.
constexpr std::int64_t rows_at_once = 64;

at::Tensor log_probs(const at::Tensor& logits) {
  return at::log_softmax(logits.to(at::kDouble), -1);
}

// KL(p || q) of rows of log-probabilities. What p excludes counts nothing.
at::Tensor divergence(const at::Tensor& p, const at::Tensor& q) {
  const at::Tensor weight = p.exp();
  return at::where(weight > 0, weight * (p - q), at::zeros_like(weight)).sum(-1);
}

}  // namespace

MetricReader::MetricReader(const Metric& metric, const Pairs& pairs, const Follower& follower,
                           const at::Tensor& clean, std::int64_t first)
    : metric_(metric), pairs_(pairs), follower_(follower), first_(first) {
  const bool compares = metric.kind == MetricKind::kl || metric.kind == MetricKind::reverse_kl ||
                        metric.kind == MetricKind::js;
  if (compares) clean_log_probs_ = log_probs(follower.logits(clean));
  if (metric.kind == MetricKind::custom && !metric.custom)
    throw Error(ErrorKind::bad_argument, "a custom metric needs its function");
}

at::Tensor MetricReader::of_rows(const at::Tensor& stream, const at::Tensor& pair) const {
  const at::Tensor right = pairs_.right.to(stream.device()).index_select(0, pair).unsqueeze(1);
  if (metric_.kind == MetricKind::logit_diff) {
    const at::Tensor wrong = pairs_.wrong.to(stream.device()).index_select(0, pair).unsqueeze(1);
    const at::Tensor both = follower_.logits_of(stream, at::cat({right, wrong}, 1)).to(at::kDouble);
    return both.select(1, 0) - both.select(1, 1);
  }
  const at::Tensor logits = follower_.logits(stream);
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
    case MetricKind::rank: return logits.gt(logits.gather(1, right)).sum(-1).to(at::kDouble);
    case MetricKind::log_prob: return log_probs(logits).gather(1, right).squeeze(1);
    case MetricKind::prob: return log_probs(logits).gather(1, right).squeeze(1).exp();
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
    case MetricKind::logit_diff: break;
  }
  return {};
}

at::Tensor MetricReader::operator()(const at::Tensor& stream) const {
  const auto B = stream.size(0);
  const auto n = stream.size(1);
  const at::Tensor rows = stream.reshape({B * n, stream.size(2)});
  const at::Tensor pair = at::arange(B, stream.options().dtype(at::kLong)).repeat_interleave(n);
  std::vector<at::Tensor> values;
  for (std::int64_t first = 0; first < B * n; first += rows_at_once) {
    const auto count = std::min(rows_at_once, B * n - first);
    values.push_back(of_rows(rows.narrow(0, first, count), pair.narrow(0, first, count)));
  }
  return at::cat(values, 0).view({B, n});
}

}  // namespace plumb
