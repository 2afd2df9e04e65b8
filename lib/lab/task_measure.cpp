#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "plumb/error.h"
#include "plumb/metrics.h"
#include "plumb/run.h"
#include "plumb/train_task.h"

namespace plumb {

namespace {

// Mean of values [B, Q] where the mask is set.
double masked_mean(const at::Tensor& values, const at::Tensor& mask) {
  const at::Tensor chosen = values.to(at::kDouble).masked_select(mask);
  return chosen.numel() == 0 ? std::numeric_limits<double>::quiet_NaN()
                             : chosen.mean().item<double>();
}

// Length of the last axis.
at::Tensor lengths(const at::Tensor& value, const Tile& /*tile*/) {
  return at::linalg_vector_norm(value, 2, c10::IntArrayRef{-1}, false);
}

// Mean over sequences of norms [B, T] at position 0, over their mean at all.
double first_over_mean(const at::Tensor& norms) {
  const at::Tensor wide = norms.to(at::kDouble);
  return (wide.select(1, 0).mean() / wide.mean()).item<double>();
}

// [H] of values [B, T, K, d_head].
at::Tensor value_drain(const Model& model, int layer, const at::Tensor& values) {
  const ModelConfig& config = model.config();
  const at::Tensor out = model.weight(Weight::out, layer).detach().to(at::kDouble);
  at::Tensor drain = at::empty({config.heads}, at::kDouble);
  for (int head = 0; head < config.heads; ++head) {
    const at::Tensor own = values.select(2, head / (config.heads / config.kv_heads));
    const at::Tensor written = at::matmul(
        own.to(at::kDouble), out.narrow(1, std::int64_t{head} * config.d_head, config.d_head).t());
    drain[head].fill_(first_over_mean(lengths(written, {})));
  }
  return drain;
}

}  // namespace

TaskMeasure measure_task(const Model& model, const TaskBatch& batch,
                         const std::vector<Intervention>& edits) {
  const std::int64_t length = batch.ids.size(1);
  if (length < 4) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("a task is measured on sequences of at least 4 tokens, not {}", length));
  }
  const ModelConfig& config = model.config();
  Plan plan{.interventions = edits};
  for (int layer = 0; layer < config.layers; ++layer) {
    plan.record.emplace_back(Site{Part::pattern, layer}, Slice{.keys = {0}});
    plan.record.emplace_back(Site{Part::v, layer});
    plan.record.emplace_back(Site{Part::resid_post, layer}, "norm", lengths);
  }
  const Run run = plumb::run(model, Tokens{.ids = batch.ids}, plan);
  const at::Tensor loss = token_loss(run.logits, batch.ids).narrow(1, 1, length - 2);
  const at::Tensor needed = batch.active.narrow(1, 1, length - 2);
  TaskMeasure measure{.loss_silent = masked_mean(loss, needed.logical_not()),
                      .loss_active = masked_mean(loss, needed),
                      .sink_silent = at::empty({config.layers, config.heads}, at::kDouble),
                      .sink_active = at::empty({config.layers, config.heads}, at::kDouble),
                      .drain = at::empty({config.layers, config.heads}, at::kDouble),
                      .peak = at::empty({config.layers}, at::kDouble)};
  const std::int64_t first = length / 4;
  const at::Tensor active = batch.active.narrow(1, first, length - first);
  for (int layer = 0; layer < config.layers; ++layer) {
    const at::Tensor column =
        run.cache.at({Part::pattern, layer}).narrow(2, first, length - first).select(3, 0).cpu();
    for (int head = 0; head < config.heads; ++head) {
      measure.sink_silent[layer][head].fill_(
          masked_mean(column.select(1, head), active.logical_not()));
      measure.sink_active[layer][head].fill_(masked_mean(column.select(1, head), active));
    }
    measure.drain[layer].copy_(value_drain(model, layer, run.cache.at({Part::v, layer})));
    measure.peak[layer].fill_(first_over_mean(run.cache.at({Part::resid_post, layer}, "norm")));
  }
  return measure;
}

}  // namespace plumb
