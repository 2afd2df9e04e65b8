#include "plumb/attribute_cost.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "experiment/attribute_mlp.h"
#include "experiment/attribute_report.h"
#include "experiment/edge_contract.h"
#include "experiment/edge_samples.h"
#include "experiment/patch_cost.h"
#include "model/block_cost.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// A thread's buffer of the BLAS, and stored bytes that it has mapped while it converts them.
constexpr std::int64_t thread_bytes = 20'000'000;
constexpr auto double_bytes = static_cast<std::int64_t>(sizeof(double));

// Elements of what is made of one block while it is pulled back: its attention's graph, and what
// its MLP holds.
std::int64_t block_graph(const ModelConfig& config, bool rules, std::int64_t rows, std::int64_t T) {
  const std::int64_t d = config.d_model;
  std::int64_t most = 0;
  for (int layer = 0; layer < config.layers; ++layer) {
    const bool known = !rules && knows_mlp_gradient(config, layer);
    most = std::max(
        most, known ? std::min(rows, mlp_rows_at_once) * (4 * std::int64_t{config.d_mlp} + 4 * d)
                    : 2 * mlp_elements(config, layer, rows, false));
  }
  return most + attention_elements(config, rows, 4 * rows * config.heads * T, false);
}

// Elements of what one tile of so many positions holds at its most.
std::int64_t tile_elements(const ModelConfig& config, const EdgeOptions& options, int depth,
                           std::int64_t rows, std::int64_t T) {
  const std::int64_t d = config.d_model;
  const std::int64_t heads = config.heads * std::int64_t{config.d_head};
  const std::int64_t keys = config.kv_heads * std::int64_t{config.d_head};
  const std::int64_t changes = rows * (d + depth * (heads + d));
  // Of the clean run, and of the sample's own or the corrupt run; only the ends of the clean run
  // where all samples lie on the way of the embeddings.
  const bool two = options.method == EdgeMethod::eap_ig_activations ||
                   options.method == EdgeMethod::clean_corrupted;
  const std::int64_t streams = (two ? 2 : 1) * (std::int64_t{depth} + 3) * rows * d;
  // Gradients of a few layers of receivers.
  const std::int64_t layers = layers_at_once(config.layers);
  const std::int64_t receivers = layers * (config.heads + 2 * std::int64_t{config.kv_heads} + 1);
  const std::int64_t waiting =
      layers * rows * ((config.gated_attention ? 2 : 1) * heads + 2 * keys + 3 * d);
  const std::int64_t weights = config.norm_place == NormPlace::before ? 0 : heads * d;
  // Chunks are half as large again where they are made of whole pairs.
  const auto room = [&](std::int64_t numbers) {
    return std::min(numbers, 3 * numbers_at_once / 2);
  };
  const std::int64_t rooms = room(rows * receivers * d) +
                             room(rows * config.layers * (std::int64_t{config.heads} + 1) * d) +
                             (receivers + config.heads + 1) * d;
  const bool rules = options.rules != EdgeRules::gradient;
  return changes + streams + waiting +
         std::max(weights + rooms, block_graph(config, rules, rows, T));
}

}  // namespace

RunCost foresee_attribution(const Model& model, const Pairs& pairs, const Metric& metric,
                            const EdgeOptions& options) {
  check_edge_options(model, pairs, metric, options);
  if (!is_estimate(options.method))
    throw Error(ErrorKind::unsupported,
                fmt::format("what {} costs depends on where the prompts differ; plan eap or eap-ig",
                            to_string(options.method)));
  const ModelConfig& config = model.config();
  const int depth = metric_depth(metric, config);
  const bool reads = reads_block(metric);
  const std::int64_t B = pairs.count();
  const std::int64_t T = pairs.clean.length();
  const std::int64_t longest = std::max(T, pairs.corrupt.length());

  Plan plan{.logits = Logits::none};
  if (depth < config.layers) plan.until = depth;
  RunCost cost = foresee(model, B, T, plan);
  const std::int64_t row =
      static_cast<std::int64_t>(at::elementSize(model.dtype())) * config.d_model;
  if (!reads) {
    const bool all = metric.kind != MetricKind::logit_diff;
    cost.weight_bytes += row * (all ? config.vocab : std::min<std::int64_t>(2 * B, config.vocab));
    if (all) cost.tensor_bytes = std::max(cost.tensor_bytes, row * config.vocab);
  }

  // Both plain runs, then each sample's way forwards from where it leaves the clean one, and each
  // block once more for its gradient.
  const std::int64_t plain = depth * (B * T + B * pairs.corrupt.length());
  const auto sample = [&](int from) {
    return B * T * (std::max(0, depth - from - (reads ? 1 : 0)) + depth);
  };
  const std::int64_t samples = samples_of(options, depth);
  switch (options.method) {
    case EdgeMethod::eap_ig: cost.evaluations = plain + samples * sample(0); break;
    case EdgeMethod::eap_ig_activations: {
      const std::int64_t points = samples / (2 * depth + 1);
      cost.evaluations = plain + points * sample(0);
      for (int layer = 0; layer < depth; ++layer) cost.evaluations += 2 * points * sample(layer);
      break;
    }
    default: cost.evaluations = plain + samples * sample(depth); break;
  }

  const GradientTiling tiling(B, T);
  const std::int64_t together =
      std::min<std::int64_t>(tiling.count(), std::max(1, model.threads()));
  const std::int64_t rows = std::min(tiling.size(), B) * longest;
  const EdgeSpace space(config);
  const std::int64_t kept = options.by_position ? T : std::min(tiling.size(), B);
  const std::int64_t products = kept * layers_at_once(config.layers) *
                                (config.heads + 2 * std::int64_t{config.kv_heads} + 1) *
                                space.senders();
  const std::int64_t tile =
      number_bytes(model) * tile_elements(config, options, depth, rows, longest) +
      2 * double_bytes * products + 2 * metric_bytes(metric, model) + thread_bytes;
  cost.activation_bytes = together * tile;
  // Of the tiles in work and one that waits for its turn, and the sum.
  cost.result_bytes =
      double_bytes * space.edges() *
      ((together + 1) * kept + (options.by_position ? 2 * T : 2) + (options.each ? 2 * B : 0));
  return cost;
}

}  // namespace plumb
