#include "experiment/node_pattern.h"

#include <ATen/ATen.h>

#include <limits>

#include "core/precision.h"

namespace plumb {

PatternOf::PatternOf(const TileModel& model)
    : inputs_(model.inputs(plan_)),
      tile_(model.tile()),
      tap_(plan_, tile_, tile_.ids.size(0)),
      pass_(inputs_, tap_),
      attention_(pass_) {}

at::Tensor PatternOf::products(const at::Tensor& q, const at::Tensor& k) const {
  const at::Tensor queries = (widened(q) * attention_.factor()).permute({0, 2, 1, 3});
  const at::Tensor keys =
      widened(k).repeat_interleave(q.size(2) / k.size(2), 2).permute({0, 2, 3, 1});
  return at::matmul(queries, keys);
}

at::Tensor PatternOf::operator()(int layer, const at::Tensor& q, const at::Tensor& k) {
  return attention_.pattern(layer, products(q, k), attention_.score_bias(layer, q.size(1), q));
}

// With one score changed, a row's other entries keep their proportions. That a key draws nearly all
// would leave no digits of the others' share, so for the key that draws most the others are summed
// by themselves; every other key leaves at least half.
KeyByKey PatternOf::key_by_key(int layer, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& other) {
  const ModelConfig& config = pass_.config();
  const at::Tensor bias = attention_.score_bias(layer, q.size(1), q);
  const auto scores = [&](const at::Tensor& keys) {
    return pass_.soft_cap(products(q, keys), config.score_cap) + bias;
  };
  const at::Tensor own = scores(k);
  const at::Tensor changed = scores(other);
  at::Tensor sinks;
  if (config.sink_logits)
    sinks = widened(pass_.weight(Weight::sinks, layer)).view({1, config.heads, 1, 1});
  // ln of what the softmax divides by.
  const auto total = [&](const at::Tensor& of) {
    const at::Tensor sum = of.logsumexp(-1, true);
    return sinks.defined() ? at::logaddexp(sum, sinks) : sum;
  };
  KeyByKey made;
  const at::Tensor all = total(own);
  made.pattern = (own - all).exp();
  made.top = own.argmax(-1, true);
  const at::Tensor without = own.scatter(-1, made.top, -std::numeric_limits<double>::infinity());
  const at::Tensor rest = total(without);
  made.others = at::where(rest.isfinite(), (without - rest).exp(), at::zeros_like(own));
  // ln of the share of all keys but the changed one.
  at::Tensor behind = all + at::log1p(-made.pattern.clamp_max(0.75));
  behind = behind.scatter(-1, made.top, rest);
  made.shift = (changed - behind).sigmoid() - made.pattern;
  return made;
}

at::Tensor KeyByKey::along(const at::Tensor& gradient, std::int64_t kv_heads) const {
  const at::Tensor weighted = pattern * gradient;
  at::Tensor mean = (weighted.sum(-1, true) - weighted) / (1.0 - pattern);
  mean = mean.scatter(-1, top, (others * gradient).sum(-1, true));
  const at::Tensor change = (shift * (gradient - mean)).sum(2);  // over queries: [b, H, key]
  return change.view({change.size(0), kv_heads, -1, change.size(2)}).sum(2).transpose(1, 2);
}

}  // namespace plumb
