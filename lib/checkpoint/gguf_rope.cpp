// Rotary embedding in GGUF files: `rope.*`, and divisors of the frequencies among the tensors.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "checkpoint/dequantise.h"
#include "checkpoint/gguf_metadata.h"
#include "checkpoint/printable.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

void read_rope_scaling(const GgufMetadata& metadata, ModelConfig& config) {
  Rope& rope = config.rope;
  const std::string_view type = metadata.text("rope.scaling.type", "none");
  if (type == "none") return;
  rope.factor = metadata.number("rope.scaling.factor", 1);
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.original_context = metadata.count("rope.scaling.original_context_length", config.context);
    rope.beta_fast = metadata.number("rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = metadata.number("rope.scaling.yarn_beta_slow", 1);
    rope.attention_factor = yarn_attention_factor(rope.factor) *
                            metadata.number("rope.scaling.attn_factor", 1) *
                            metadata.number("rope.scaling.yarn_attn_factor", 1);
    for (const char* name : {"rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor"}) {
      if (metadata.has(name)) metadata.unhandled(name);
    }
  } else {
    metadata.unsupported(fmt::format(
        "rope scaling {} is not handled; plumb knows none, linear, yarn", printable(type)));
  }
}

/// Llama 3's scaling is stored as a table of divisors of the frequencies. It is recognised by
/// computing the table for the values that all its models use, and comparing.
void read_rope_table(const GgufMetadata& metadata, ModelConfig& config) {
  const StoredTensor* stored = metadata.tensor("rope_freqs.weight");
  if (stored == nullptr) return;
  Rope& rope = config.rope;
  const std::int64_t pairs = rope.dims / 2;
  if (stored->info.shape != std::vector<std::int64_t>{pairs} || stored->storage != Storage::f32) {
    metadata.bad(fmt::format("tensor \"rope_freqs.weight\" should be F32 of shape [{}]", pairs));
  }
  std::vector<float> table(static_cast<std::size_t>(pairs));
  widen(*stored, 0, pairs, table.data());
  if (std::all_of(table.begin(), table.end(), [](float value) { return value == 1.0F; })) return;
  rope.scaling = RopeScaling::llama3;
  rope.factor = static_cast<double>(*std::max_element(table.begin(), table.end()));
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_context = 8192;
  constexpr double tolerance = 1e-5;  // the table is computed and stored in float32
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / rope.dims);
    const double turns = rope.original_context * frequency / (2 * std::numbers::pi);
    const double smooth = std::clamp(
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
    const double expected = 1 / ((1 - smooth) / rope.factor + smooth);
    if (!(std::abs(static_cast<double>(table[i]) - expected) <= tolerance * expected)) {
      metadata.unsupported(
          "tensor \"rope_freqs.weight\" is a table of frequencies other than Llama 3's");
    }
  }
}

}  // namespace

void read_gguf_rotation(const GgufMetadata& metadata, ModelConfig& config) {
  config.rope.theta = metadata.number("rope.freq_base", 10000);
  config.rope.dims = metadata.count("rope.dimension_count", config.d_head);
  if (config.rope.dims != config.d_head) {
    metadata.unsupported(
        fmt::format("metadata key {} is {}, but plumb rotates all {} channels of a "
                    "head",
                    metadata.key("rope.dimension_count"), config.rope.dims, config.d_head));
  }
  if (metadata.has("rope.scale_linear")) metadata.unhandled("rope.scale_linear");
  for (const char* table : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (metadata.has_tensor(table)) {
      metadata.unsupported(fmt::format("tensor \"{}\" (LongRoPE) is not handled by plumb", table));
    }
  }
  read_rope_scaling(metadata, config);
  read_rope_table(metadata, config);
}

}  // namespace plumb
