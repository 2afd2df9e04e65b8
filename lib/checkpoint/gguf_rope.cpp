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
    metadata.unsupported(
        fmt::format("rope scaling {} is not handled; plumb knows none, linear, yarn, longrope",
                    printable(type)));
  }
}

/// A tensor of divisors of the frequencies.
std::vector<double> read_divisors(const GgufMetadata& metadata, const char* name, int dims) {
  const StoredTensor* stored = metadata.tensor(name);
  const std::int64_t pairs = dims / 2;
  if (stored == nullptr) metadata.bad(fmt::format("tensor \"{}\" is missing", name));
  if (stored->info.shape != std::vector<std::int64_t>{pairs} || stored->storage != Storage::f32) {
    metadata.bad(fmt::format("tensor \"{}\" should be F32 of shape [{}]", name, pairs));
  }
  std::vector<double> table(static_cast<std::size_t>(pairs));
  widen(*stored, 0, pairs, table.data());
  return table;
}

/// Whether the table is what Llama 3's scaling computes from the values that its models use.
bool is_llama3(const std::vector<double>& table, const Rope& rope) {
  constexpr double tolerance = 1e-5;  // the table is computed and stored in float32
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / rope.dims);
    const double turns = rope.original_context * frequency / (2 * std::numbers::pi);
    const double smooth = std::clamp(
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
    const double expected = 1 / ((1 - smooth) / rope.factor + smooth);
    if (!(std::abs(table[i] - expected) <= tolerance * expected)) return false;
  }
  return true;
}

/// Llama 3's scaling is stored as a table, and so is any other that divides the frequencies.
void read_rope_table(const GgufMetadata& metadata, ModelConfig& config) {
  constexpr const char* name = "rope_freqs.weight";
  if (!metadata.has_tensor(name)) return;
  const std::vector<double> table = read_divisors(metadata, name, config.rope.dims);
  if (std::all_of(table.begin(), table.end(), [](double value) { return value == 1.0; })) return;
  if (config.rope.scaling != RopeScaling::none) {
    metadata.unsupported(
        fmt::format("tensor \"{}\" scales the rotation, and so does metadata key "
                    "{}; plumb handles one of them",
                    name, metadata.key("rope.scaling.type")));
  }
  Rope rope = config.rope;
  rope.scaling = RopeScaling::llama3;
  rope.factor = *std::max_element(table.begin(), table.end());
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_context = 8192;
  if (!is_llama3(table, rope)) {
    rope.scaling = RopeScaling::longrope;
    rope.original_context = config.context;
    rope.short_factors = rope.long_factors = table;
  }
  config.rope = rope;
}

/// Two tables, for sequences up to the original context and longer ones.
void read_longrope(const GgufMetadata& metadata, ModelConfig& config) {
  Rope& rope = config.rope;
  rope.scaling = RopeScaling::longrope;
  rope.original_context = metadata.count("rope.scaling.original_context_length", config.context);
  rope.factor = static_cast<double>(config.context) / rope.original_context;
  const double usual = rope.factor <= 1
                           ? 1.0
                           : std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_context));
  rope.attention_factor = metadata.number("rope.scaling.attn_factor", usual);
  rope.short_factors = read_divisors(metadata, "rope_factors_short.weight", rope.dims);
  rope.long_factors = read_divisors(metadata, "rope_factors_long.weight", rope.dims);
}

}  // namespace

void read_gguf_rotation(const GgufMetadata& metadata, ModelConfig& config) {
  config.rope.theta = metadata.number("rope.freq_base", 10000);
  config.rope.dims = metadata.count("rope.dimension_count", config.d_head);
  if (metadata.has("rope.scale_linear")) metadata.unhandled("rope.scale_linear");
  const bool tables = metadata.has_tensor("rope_factors_long.weight") ||
                      metadata.has_tensor("rope_factors_short.weight");
  const std::string_view type = metadata.text("rope.scaling.type", "none");
  if (type == "longrope" || (tables && type == "none")) {
    read_longrope(metadata, config);
  } else if (tables) {
    metadata.unsupported(
        fmt::format("rope scaling {} has tables of factors, which plumb handles "
                    "with longrope only",
                    printable(type)));
  } else {
    read_rope_scaling(metadata, config);
  }
  read_rope_table(metadata, config);
}

}  // namespace plumb
