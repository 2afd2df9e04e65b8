// The architectures of GGUF files that plumb knows. Permutations and constants that no key states
// are those of the converter and runtime that define the format.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>

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

/// Fused q, k and v, and the gate above the linear factor in one tensor.
void place_phi3(const ModelConfig& config, Weight weight, int layer, Source& source) {
  place_fused(config, weight, layer, source);
  if (weight != Weight::gate && weight != Weight::up) return;
  source.tensor = fmt::format("blk.{}.ffn_up.weight", layer);
  source.first = weight == Weight::gate ? 0 : config.d_mlp;
  source.outputs = std::int64_t{2} * config.d_mlp;
}

void read_llama_like(const GgufMetadata& metadata, ModelConfig& config) {
  if (metadata.has_tensor("blk.0.attn_q_norm.weight")) config.qk_norm = QkNorm::head;
  read_gguf_rotation(metadata, config);
}

/// For the architectures whose rows are interleaved over the whole head.
void rotate_all(const GgufMetadata& metadata, const ModelConfig& config) {
  if (config.rope.dims == config.d_head) return;
  metadata.unsupported(fmt::format(
      "metadata key {} is {}, but plumb rotates all {} channels of a head in this architecture",
      metadata.key("rope.dimension_count"), config.rope.dims, config.d_head));
}

/// Windows of `width` in the layers that the pattern names; where it is absent, in all but every
/// `period`-th.
void read_windows(const GgufMetadata& metadata, ModelConfig& config, int width, int period) {
  constexpr const char* key = "attention.sliding_window_pattern";
  const std::vector<bool> named = metadata.flags(key, config.layers);
  if (named.empty()) period = metadata.count(key, period);
  for (int layer = 0; layer < config.layers; ++layer) {
    const bool slides =
        named.empty() ? (layer + 1) % period != 0 : named[static_cast<std::size_t>(layer)];
    config.windows.push_back(slides ? width : 0);
  }
}

/// Which experts' probabilities are normalised, where no key says: it is what the architecture
/// does.
void weigh_experts(const GgufMetadata& metadata, ModelConfig& config, bool normalised) {
  config.experts.normalise = metadata.flag("expert_weights_norm", normalised);
  constexpr int softmax = 1;
  const int gating = metadata.count_or_none("expert_gating_func");
  if (gating != 0 && gating != softmax) metadata.unhandled("expert_gating_func");
}

/// Mistral's files say that they are Llama's, and so do Mixtral's.
void read_llama(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  rotate_all(metadata, config);
  if (config.experts.count > 0) {
    config.family = "mixtral";
    weigh_experts(metadata, config, true);
  }
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    if (config.experts.count == 0) config.family = "mistral";
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
}

/// Every fourth layer does not rotate.
void read_smollm3(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  rotate_all(metadata, config);
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

/// The converter has added the 1 to the gains of Gemma's norms.
void read_gemma(const GgufMetadata& metadata, ModelConfig& config) {
  config.activation = Activation::gelu_tanh;
  config.embed_scale = std::sqrt(static_cast<double>(config.d_model));
  read_llama_like(metadata, config);
}

/// The largest model of a generation, known by its layers, scales queries by the width of a head as
/// it would be if the heads filled the stream.
void scale_largest(ModelConfig& config, int layers) {
  if (config.layers != layers || config.attention_scale != 0) return;
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.d_model / config.heads));
}

void read_gemma2(const GgufMetadata& metadata, ModelConfig& config) {
  read_gemma(metadata, config);
  config.norm_place = NormPlace::both;
  config.score_cap = metadata.number("attn_logit_softcapping", 50);
  config.logit_cap = metadata.number("final_logit_softcapping", 30);
  read_windows(metadata, config, metadata.count("attention.sliding_window", 4096), 2);
  scale_largest(config, 46);
}

void read_gemma3(const GgufMetadata& metadata, ModelConfig& config) {
  read_gemma(metadata, config);
  config.norm_place = NormPlace::both;
  config.logit_cap = metadata.number("final_logit_softcapping", 0);
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    read_windows(metadata, config, window, 6);
    config.window_rope.theta = metadata.number("rope.freq_base_swa", 10000);
    config.window_rope.dims = config.rope.dims;
  }
  scale_largest(config, 62);
}

void read_phi3(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    config.windows.assign(static_cast<std::size_t>(config.layers), window);
  }
}

void read_gptneox(const GgufMetadata& metadata, ModelConfig& config) {
  config.activation = Activation::gelu;
  config.gated_mlp = false;
  config.parallel = metadata.flag("use_parallel_residual", true);
  read_gguf_rotation(metadata, config);
}

void read_mpt(const GgufMetadata& metadata, ModelConfig& config) {
  config.activation = Activation::gelu;
  config.gated_mlp = false;
  config.norm_bias = metadata.has_tensor("output_norm.bias");
  config.positions = Positions::alibi;
  config.alibi_bias = metadata.number("attention.max_alibi_bias");
  config.qkv_clip = metadata.number("attention.clamp_kqv", 0);
  if (config.alibi_bias == 0 || metadata.has_tensor("position_embd.weight")) {
    metadata.unsupported("has learned positions, which plumb does not handle in this architecture");
  }
}

/// LayerNorm without gains or biases.
void read_olmo(const GgufMetadata& metadata, ModelConfig& config) {
  config.norm_gain = config.norm_bias = false;
  config.qkv_clip = metadata.number("attention.clamp_kqv", 0);
  read_gguf_rotation(metadata, config);
  rotate_all(metadata, config);
}

/// OLMo 3 is OLMo 2 with windows, in which the rotation is not scaled.
void read_olmo2(const GgufMetadata& metadata, ModelConfig& config) {
  config.norm_place = NormPlace::after;
  // Converters disagree on whether the factor contains yarn's own.
  if (metadata.has("rope.scaling.attn_factor")) metadata.unhandled("rope.scaling.attn_factor");
  read_gguf_rotation(metadata, config);
  config.qk_norm = QkNorm::whole;
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    config.family = "olmo3";
    read_windows(metadata, config, window, 4);
    config.window_rope.theta = config.rope.theta;
    config.window_rope.dims = config.rope.dims;
  }
}

void read_qwen2moe(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  weigh_experts(metadata, config, false);
}

void read_qwen3moe(const GgufMetadata& metadata, ModelConfig& config) {
  read_llama_like(metadata, config);
  weigh_experts(metadata, config, true);
}

void read_olmoe(const GgufMetadata& metadata, ModelConfig& config) {
  read_gguf_rotation(metadata, config);
  config.qk_norm = QkNorm::whole;
  config.qkv_clip = metadata.number("attention.clamp_kqv", 0);
  weigh_experts(metadata, config, false);
}

/// The unit's constants and the exact range of yarn's correction are those of the models; no key
/// says them. A window in every second layer from the first on.
void read_gpt_oss(const GgufMetadata& metadata, ModelConfig& config) {
  read_gguf_rotation(metadata, config);
  config.rope.truncate = config.rope.scaling != RopeScaling::yarn;
  config.sink_logits = true;
  if (const int window = metadata.count_or_none("attention.sliding_window")) {
    read_windows(metadata, config, window, 2);
  }
  config.experts.normalise = true;
  config.experts.limit = 7.0;
  config.experts.alpha = 1.702;
}

/// The norm on what the MLP reads is called for what it stands after.
void place_gpt_oss(const ModelConfig&, Weight weight, int layer, Source& source) {
  if (weight == Weight::ln2)
    source.tensor = fmt::format("blk.{}.post_attention_norm.weight", layer);
}

constexpr std::array<GgufArchitecture, 17> architectures = {{
    {"gemma", "gemma", read_gemma, nullptr},
    {"gemma2", "gemma2", read_gemma2, nullptr},
    {"gemma3", "gemma3_text", read_gemma3, nullptr},
    {"gpt2", "gpt2", read_gpt2, place_fused},
    {"gptneox", "gpt_neox", read_gptneox, place_fused},
    {"gpt-oss", "gpt_oss", read_gpt_oss, place_gpt_oss, true},
    {"llama", "llama", read_llama, place_interleaved, true},
    {"mpt", "mpt", read_mpt, place_fused},
    {"olmo", "olmo", read_olmo, place_interleaved},
    {"olmo2", "olmo2", read_olmo2, nullptr},
    {"olmoe", "olmoe", read_olmoe, nullptr, true},
    {"phi3", "phi3", read_phi3, place_phi3},
    {"qwen2", "qwen2", read_llama_like, nullptr},
    {"qwen2moe", "qwen2_moe", read_qwen2moe, nullptr, true},
    {"qwen3", "qwen3", read_llama_like, nullptr},
    {"qwen3moe", "qwen3_moe", read_qwen3moe, nullptr, true},
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
