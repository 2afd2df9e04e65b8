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

}  // namespace

TaskMeasure measure_task(const Model& model, const TaskBatch& batch) {
  const std::int64_t length = batch.ids.size(1);
  if (length < 4) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("a task is measured on sequences of at least 4 tokens, not {}", length));
  }
  const ModelConfig& config = model.config();
  Plan plan;
  for (int layer = 0; layer < config.layers; ++layer) {
    plan.record.emplace_back(Site{Part::pattern, layer}, Slice{.keys = {0}});
  }
  const Run run = plumb::run(model, Tokens{.ids = batch.ids}, plan);
  const at::Tensor loss = token_loss(run.logits, batch.ids).narrow(1, 1, length - 2);
  const at::Tensor needed = batch.active.narrow(1, 1, length - 2);
  TaskMeasure measure{.loss_silent = masked_mean(loss, needed.logical_not()),
                      .loss_active = masked_mean(loss, needed),
                      .sink_silent = at::empty({config.layers, config.heads}, at::kDouble),
                      .sink_active = at::empty({config.layers, config.heads}, at::kDouble)};
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
  }
  return measure;
}

}  // namespace plumb
