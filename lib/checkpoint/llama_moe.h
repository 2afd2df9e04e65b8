// What the descendants of Llama with mixtures of experts share.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "checkpoint/family.h"

namespace plumb {

/// The fields of the number of experts, for `LlamaDefaults::reads`.
extern const std::vector<std::string_view> expert_counts;

/// `num_experts` or `num_local_experts`, `num_experts_per_tok`, `norm_topk_prob`, and the width of
/// an expert in the field `width`. Throws unsupported on fields of other kinds of routing.
Experts read_experts(const Fields& fields, const char* width);

/// `decoder_sparse_step` and `mlp_only_layers`: which layers are sparse; empty = all.
std::vector<std::uint8_t> read_sparse_layers(const Fields& fields, int layers);

/// Names such as "model.layers.0.mlp.experts.5.gate_proj.weight".
Source llama_moe_source(const ModelConfig& config, Weight weight, int layer);

/// Adds the fields that `read_experts` reads.
void write_experts(const ModelConfig& config, const char* width, Json& json);

/// Adds the fields that `read_sparse_layers` reads.
void write_sparse_layers(const ModelConfig& config, Json& json);

}  // namespace plumb
