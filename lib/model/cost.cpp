#include "plumb/cost.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/block_attention.h"
#include "model/block_cost.h"
#include "model/decoder.h"
#include "model/model_impl.h"
#include "model/streamed_plan.h"
#include "model/tiling.h"

namespace plumb {
namespace {

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  if (shape.empty()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

void add_block(const ModelConfig& config, int layer, bool mlp, RunCost& cost) {
  std::int64_t block = 0;
  for (const Weight weight : all_weights()) {
    if (!is_per_layer(weight) || (!mlp && weight >= Weight::ln2)) continue;
    const std::int64_t count = elements(weight_shape(config, weight, layer));
    block += count;
    // Experts are read one by one.
    const std::int64_t parts = is_per_expert(weight) && count > 0 ? config.experts.count : 1;
    cost.tensor_bytes = std::max(cost.tensor_bytes, count / parts);
  }
  cost.block_bytes = std::max(cost.block_bytes, block);
  cost.weight_bytes += block;
}

bool records(const Plan& plan, Part part, int layer) {
  return std::ranges::any_of(plan.record, [&](const Record& r) {
    return r.site == Site{part, layer};
  });
}

}  // namespace

std::int64_t attention_elements(const ModelConfig& config, std::int64_t rows, std::int64_t scores,
                                bool head_out) {
  const std::int64_t heads = config.heads * std::int64_t{config.d_head};
  const std::int64_t keys = config.kv_heads * std::int64_t{config.d_head};
  const std::int64_t writes = head_out ? 2 * config.heads * std::int64_t{config.d_model} : 0;
  return 3 * rows * config.d_model +
         std::max(rows * 4 * (heads + keys) + scores, rows * (2 * heads + writes));
}

std::int64_t mlp_elements(const ModelConfig& config, int layer, std::int64_t rows,
                          bool expert_out) {
  const std::int64_t d = config.d_model;
  if (!is_sparse(config, layer))
    return rows * (5 * d + (config.gated_mlp ? 3 : 2) * std::int64_t{config.d_mlp});
  const Experts& experts = config.experts;
  const std::int64_t visits = expert_out ? experts.count : experts.per_token;
  const std::int64_t width = std::max(experts.width, experts.shared_width);
  return rows * (6 * d + 4 * experts.count + visits * d + 3 * width);
}

std::vector<std::int64_t> shape_of(const ModelConfig& config, std::int64_t batch,
                                   std::int64_t length, const SlicedSite& site) {
  const auto chosen = [](const std::vector<std::int64_t>& indices, std::int64_t all) {
    return indices.empty() ? all : static_cast<std::int64_t>(indices.size());
  };
  const auto size = [&](Axis axis, const Slice& where) -> std::int64_t {
    switch (axis) {
      case Axis::batch: return batch;
      case Axis::position:
      case Axis::query: return chosen(where.positions, length);
      case Axis::key: return chosen(where.keys, length);
      case Axis::head: return chosen(where.heads, config.heads);
      case Axis::kv_head: return chosen(where.heads, config.kv_heads);
      case Axis::d_head: return chosen(where.units, config.d_head);
      case Axis::d_model: return chosen(where.units, config.d_model);
      case Axis::d_mlp: return chosen(where.units, config.d_mlp);
      case Axis::vocab: return chosen(where.units, config.vocab);
      case Axis::expert: return chosen(where.experts, config.experts.count);
      case Axis::scale: return 1;
    }
    return 1;
  };
  std::vector<std::int64_t> shape;
  for (const Axis axis : axes(site.site.part)) shape.push_back(size(axis, site.slice));
  return shape;
}

RunCost foresee(const Model& model, std::int64_t batch, std::int64_t length, const Plan& asked,
                std::int64_t sequences) {
  const Plan plan = within(model, asked);
  const ModelConfig& config = model.config();
  const auto bytes = static_cast<std::int64_t>(at::elementSize(model.dtype()));
  const int first = plan.restart ? plan.restart->layer : 0;
  const int last = plan.until.value_or(config.layers);

  RunCost cost;
  cost.evaluations = batch * length * (last - first);
  for (int layer = first; layer < last; ++layer) {
    add_block(config, layer, !ends_with_attention(plan, layer), cost);
  }
  const bool logits = !plan.until && needs_logits(plan);
  if (logits) {
    const std::int64_t table = std::int64_t{config.vocab} * config.d_model;
    cost.weight_bytes += table;
    cost.tensor_bytes = std::max(cost.tensor_bytes, table);
  }
  if (!plan.restart) {
    const auto rows = std::min<std::int64_t>(batch * length, config.vocab);
    if (!logits || !config.tied) cost.weight_bytes += rows * config.d_model;
    cost.weight_bytes += elements(weight_shape(config, Weight::pos_embed));
  }
  for (std::int64_t* count : {&cost.weight_bytes, &cost.block_bytes, &cost.tensor_bytes}) {
    *count *= bytes;
  }

  const Tiling tiling(batch, length, plan.gradients);
  const std::int64_t part = tiling.tiles_in(sequences);
  const std::int64_t tiles = std::min(part, tiling.count());
  const std::int64_t rows = std::min(tiling.size(), batch) * length;
  const bool logits_stream = streams_logits(plan, length);
  const std::int64_t logit_rows =
      logits_stream ? std::min(rows, rows / length * streamed_logits) : rows;
  std::int64_t most =
      logits ? rows * 3 * std::int64_t{config.d_model} + logit_rows * std::int64_t{config.vocab}
             : 0;
  const bool on_cpu = model.device().is_cpu();
  // Threads share the blocks of a lone tile.
  const int at_blocks = tiling.count() == 1 ? model.threads() : 1;
  for (int layer = first; layer < last; ++layer) {
    const std::int64_t scores = streams_attention(plan, layer, length, on_cpu)
                                    ? block_elements(config, rows / length, length, at_blocks)
                                    : 2 * rows * config.heads * length + length * length;
    most = std::max({most,
                     attention_elements(config, rows, scores, records(plan, Part::head_out, layer)),
                     mlp_elements(config, layer, rows, records(plan, Part::expert_out, layer))});
  }
  // A reduction may need as much again as what it reads.
  std::int64_t reduced = 0;
  for (const Record& record : plan.record) {
    if (!record.reduce) continue;
    const Part part = record.site.part;
    if ((part == Part::scores || part == Part::pattern) &&
        streams_attention(plan, record.site.layer, length, on_cpu))
      continue;
    if (part == Part::logits && logits_stream) continue;
    const std::int64_t sequences_of_tile = std::min(tiling.size(), batch);
    reduced = std::max(reduced, elements(shape_of(config, sequences_of_tile, length,
                                                  {record.site, record.where})));
  }
  most += reduced;
  const std::int64_t together = std::min<std::int64_t>(tiles, model.threads());
  const std::int64_t whole_rows = std::min(tiles * tiling.size(), batch) * length;
  std::int64_t recorded = 0;
  for (const Record& record : plan.record) {
    if (record.reduce) continue;
    const std::int64_t sequences_together = std::min(tiles * tiling.size(), batch);
    recorded += elements(shape_of(config, sequences_together, length, {record.site, record.where}));
  }
  const std::int64_t joined = tiles > 1 ? recorded : 0;
  cost.activation_bytes = bytes * (most * together + whole_rows * config.d_model + joined);
  cost.result_bytes = recorded;
  if (plan.logits == Logits::all && !plan.until) cost.result_bytes += whole_rows * config.vocab;
  cost.result_bytes *= bytes;
  return cost;
}

std::int64_t foresee_peak(const Model& model, const RunCost& cost) {
  const std::int64_t others =
      resident_bytes() + overhead_bytes + cost.activation_bytes + cost.result_bytes;
  std::int64_t weights = cost.weight_bytes;
  if (model.memory() > 0) {
    weights = std::min(weights, std::max(cost.tensor_bytes, model.memory() - others));
  }
  return others + weights;
}

}  // namespace plumb
