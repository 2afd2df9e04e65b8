// The architectures of GGUF files that plumb knows. Permutations and constants that no key states
// are those of the converter and runtime that define the format.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "checkpoint/gguf_architecture.h"

namespace plumb {
namespace {

bool is_query(Weight weight) { return weight == Weight::q || weight == Weight::q_bias; }
bool is_key(Weight weight) { return weight == Weight::k || weight == Weight::k_bias; }
bool is_value(Weight weight) { return weight == Weight::v || weight == Weight::v_bias; }

/// Rows of q and k in the interleaved pairs of the original Llama files.
void place_interleaved(const ModelConfig& config, Weight weight, int, Source& source) {
  if (is_query(weight)) source.interleaved_heads = config.heads;
  if (is_key(weight)) source.interleaved_heads = config.kv_heads;
}

/// q, k and v one after the other in a single tensor.
void place_fused(const ModelConfig& config, Weight weight, int layer, Source& source) {
  if (!is_query(weight) && !is_key(weight) && !is_value(weight)) return;
  const std::int64_t queries = std::int64_t{config.heads} * config.d_head;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.d_head;
  const bool bias = source.tensor.ends_with(".bias");
  source.tensor = fmt::format("blk.{}.attn_qkv.{}", layer, bias ? "bias" : "weight");
  source.first = is_query(weight) ? 0 : is_key(weight) ? queries : queries + keys;
  source.outputs = queries + 2 * keys;
}

void read_llama_like(const GgufMetadata& metadata, ModelConfig& config) {
  if (metadata.has_tensor("blk.0.attn_q_norm.weight")) config.qk_norm = QkNorm::head;
  read_gguf_rotation(metadata, config);
}

/// Mistral's files say that they are Llama's.
void read_llama(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    config.family = "mistral";
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
}

/// Every fourth layer does not rotate.
void read_smollm3(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  constexpr int interval = 4;
  if (config.layers < interval) return;
  for (int layer = 0; layer < config.layers; ++layer) {
    config.rope_layers.push_back((layer + 1) % interval != 0);
  }
}

void read_gpt2(const GgufMetadata&, ModelConfig& config) {
  config.positions = Positions::learned;
  config.activation = Activation::gelu_tanh;
  config.gated_mlp = false;
  config.qkv_bias = config.out_bias = config.mlp_bias = true;
}

constexpr std::array<GgufArchitecture, 5> architectures = {{
    {"gpt2", "gpt2", read_gpt2, place_fused},
    {"llama", "llama", read_llama, place_interleaved},
    {"qwen2", "qwen2", read_llama_like, nullptr},
    {"qwen3", "qwen3", read_llama_like, nullptr},
    {"smollm3", "smollm3", read_smollm3, place_interleaved},
}};

}  // namespace

const GgufArchitecture* find_gguf_architecture(std::string_view name) {
  for (const GgufArchitecture& architecture : architectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

std::string gguf_architecture_names() {
  std::vector<std::string_view> names;
  for (const GgufArchitecture& architecture : architectures) names.push_back(architecture.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace plumb
