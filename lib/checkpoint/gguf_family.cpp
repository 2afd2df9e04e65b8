// GGUF metadata to ModelConfig, and GGUF tensor names to canonical weights.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "checkpoint/dequantise.h"
#include "checkpoint/gguf.h"
#include "checkpoint/opened.h"
#include "checkpoint/printable.h"
#include "checkpoint/rope_config.h"
#include "plumb/error.h"

namespace plumb {
namespace {

/// Metadata of one architecture, whose keys begin with its name.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  std::string key(const char* name) const { return fmt::format("{}.{}", architecture_, name); }
  bool has(const char* name) const { return file_.has(key(name)); }
  bool has_tensor(const char* name) const { return find_tensor(file_.tensors(), name) != nullptr; }
  int count(const char* name) const {
    return static_cast<int>(file_.integer(key(name), 1, INT32_MAX));
  }
  int count(const char* name, int fallback) const {
    return static_cast<int>(file_.integer(key(name), 1, INT32_MAX, fallback));
  }
  double number(const char* name, double fallback) const {
    return file_.number(key(name), fallback);
  }
  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file_.file().path().string(), message));
  }
  [[noreturn]] void unsupported(const std::string& message) const {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: {}", file_.file().path().string(), message));
  }
  void refuse_foreign_keys() const;

  const GgufFile& file() const { return file_; }
  const std::string& architecture() const { return architecture_; }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

void Metadata::refuse_foreign_keys() const {
  for (const char* name :
       {"attention.sliding_window", "attention.clamp_kqv", "attention.max_alibi_bias",
        "attention.scale", "logit_scale", "residual_scale", "embedding_scale", "expert_count",
        "attn_logit_softcapping", "final_logit_softcapping", "attention.kv_lora_rank",
        "rope.scaling.alpha", "rope.dimension_sections"}) {
    if (!has(name)) continue;
    const GgufValue& value = file_.metadata().find(key(name))->second;
    const bool zero = value.type != GgufType::array && value.type != GgufType::string &&
                      value.type != GgufType::boolean && number(name, 0) == 0;
    if (!zero) unsupported(fmt::format("metadata key {} is not handled by plumb", key(name)));
  }
  for (const char* name : {"use_parallel_residual", "attention.causal"}) {
    const bool wanted = std::string_view(name) == "attention.causal";
    if (file_.flag(key(name), wanted) != wanted) {
      unsupported(fmt::format("metadata key {} is {}, but plumb handles only {}", key(name),
                              !wanted, wanted));
    }
  }
}

void read_rope_scaling(const Metadata& metadata, ModelConfig& config) {
  Rope& rope = config.rope;
  const std::string_view type = metadata.file().text(metadata.key("rope.scaling.type"), "none");
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
      if (metadata.has(name)) {
        metadata.unsupported(
            fmt::format("metadata key {} is not handled by plumb", metadata.key(name)));
      }
    }
  } else {
    metadata.unsupported(fmt::format(
        "rope scaling {} is not handled; plumb knows none, linear, yarn", printable(type)));
  }
}

/// Llama 3's scaling is stored as a table of divisors of the frequencies. It is recognised by
/// computing the table for the values that all its models use, and comparing.
void read_rope_table(const Metadata& metadata, ModelConfig& config) {
  const StoredTensor* stored = find_tensor(metadata.file().tensors(), "rope_freqs.weight");
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

void read_rotation(const Metadata& metadata, ModelConfig& config) {
  config.rope.theta = metadata.number("rope.freq_base", 10000);
  config.rope.dims = metadata.count("rope.dimension_count", config.d_head);
  if (config.rope.dims != config.d_head) {
    metadata.unsupported(
        fmt::format("metadata key {} is {}, but plumb rotates all {} channels of a "
                    "head",
                    metadata.key("rope.dimension_count"), config.rope.dims, config.d_head));
  }
  if (metadata.has("rope.scale_linear")) {
    metadata.unsupported(
        fmt::format("metadata key {} is not handled by plumb", metadata.key("rope.scale_linear")));
  }
  for (const char* table : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (metadata.has_tensor(table)) {
      metadata.unsupported(fmt::format("tensor \"{}\" (LongRoPE) is not handled by plumb", table));
    }
  }
  read_rope_scaling(metadata, config);
  read_rope_table(metadata, config);
}

ModelConfig read_config(const Metadata& metadata) {
  metadata.refuse_foreign_keys();
  const bool gpt2 = metadata.architecture() == "gpt2";
  ModelConfig config;
  config.family = metadata.architecture();
  config.layers =
      static_cast<int>(metadata.file().integer(metadata.key("block_count"), 1, 100'000));
  config.d_model = metadata.count("embedding_length");
  config.d_mlp = metadata.count("feed_forward_length");
  config.heads = metadata.count("attention.head_count");
  config.kv_heads = metadata.count("attention.head_count_kv", config.heads);
  config.context = metadata.count("context_length");
  if (!metadata.has("attention.key_length") && config.d_model % config.heads != 0) {
    metadata.bad(fmt::format("embedding length {} is not a multiple of the {} heads",
                             config.d_model, config.heads));
  }
  config.d_head = metadata.count("attention.key_length", config.d_model / config.heads);
  if (metadata.count("attention.value_length", config.d_head) != config.d_head) {
    metadata.unsupported(fmt::format("metadata keys {} and {} differ, which plumb does not handle",
                                     metadata.key("attention.key_length"),
                                     metadata.key("attention.value_length")));
  }
  const StoredTensor* embedding = find_tensor(metadata.file().tensors(), "token_embd.weight");
  if (embedding == nullptr) metadata.bad("tensor \"token_embd.weight\" is missing");
  const std::int64_t rows = embedding->info.shape.front();
  if (rows > INT32_MAX) metadata.bad("tensor \"token_embd.weight\" has too many rows");
  config.vocab = metadata.count("vocab_size", static_cast<int>(rows));
  config.tied = !metadata.has_tensor("output.weight");
  if (gpt2) {
    config.norm = Norm::layer;
    config.positions = Positions::learned;
    config.activation = Activation::gelu_tanh;
    config.gated_mlp = false;
    config.qkv_bias = config.out_bias = config.mlp_bias = true;
    config.norm_eps = metadata.number("attention.layer_norm_epsilon", 1e-5);
  } else {
    config.norm_eps = metadata.file().number(metadata.key("attention.layer_norm_rms_epsilon"));
    config.qkv_bias = metadata.has_tensor("blk.0.attn_q.bias");
    config.out_bias = metadata.has_tensor("blk.0.attn_output.bias");
    config.mlp_bias = metadata.has_tensor("blk.0.ffn_up.bias");
    config.qk_norm = metadata.has_tensor("blk.0.attn_q_norm.weight");
    read_rotation(metadata, config);
  }
  return config;
}

const char* stem(Weight weight) {
  switch (weight) {
    case Weight::embed: return "token_embd";
    case Weight::pos_embed: return "position_embd";
    case Weight::final_norm:
    case Weight::final_norm_bias: return "output_norm";
    case Weight::unembed: return "output";
    case Weight::ln1:
    case Weight::ln1_bias: return "attn_norm";
    case Weight::q:
    case Weight::q_bias: return "attn_q";
    case Weight::k:
    case Weight::k_bias: return "attn_k";
    case Weight::v:
    case Weight::v_bias: return "attn_v";
    case Weight::q_norm: return "attn_q_norm";
    case Weight::k_norm: return "attn_k_norm";
    case Weight::out:
    case Weight::out_bias: return "attn_output";
    case Weight::ln2:
    case Weight::ln2_bias: return "ffn_norm";
    case Weight::gate:
    case Weight::gate_bias: return "ffn_gate";
    case Weight::up:
    case Weight::up_bias: return "ffn_up";
    case Weight::down:
    case Weight::down_bias: return "ffn_down";
  }
  return "none";
}

Source source(const ModelConfig& config, bool fused, Weight weight, int layer) {
  const bool bias = std::string_view(to_string(weight)).ends_with("_bias");
  const bool query = weight == Weight::q || weight == Weight::q_bias;
  const bool key = weight == Weight::k || weight == Weight::k_bias;
  const bool value = weight == Weight::v || weight == Weight::v_bias;
  Source source;
  const char* name = stem(weight);
  if (fused && (query || key || value)) {
    const std::int64_t d_model = config.d_model;
    name = "attn_qkv";
    source.first = query ? 0 : key ? d_model : 2 * d_model;
    source.outputs = 3 * d_model;
  }
  // Only this architecture keeps the interleaved pairs of the original Llama files.
  if (config.family == "llama" && (query || key)) {
    source.interleaved_heads = query ? config.heads : config.kv_heads;
  }
  source.tensor = is_per_layer(weight) ? fmt::format("blk.{}.{}", layer, name) : name;
  source.tensor += bias ? ".bias" : ".weight";
  return source;
}

}  // namespace

Opened open_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  const std::string architecture(file.text("general.architecture"));
  constexpr std::array<std::string_view, 4> known = {"gpt2", "llama", "qwen2", "qwen3"};
  if (std::find(known.begin(), known.end(), architecture) == known.end()) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: architecture {} is not handled; plumb knows gpt2, llama, qwen2, qwen3",
                    path.string(), printable(architecture)));
  }
  if (file.integer("split.count", 0, INT32_MAX, 0) > 1) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: is one part of a split model; join the parts first", path.string()));
  }
  Opened opened;
  opened.format = "gguf";
  opened.where = path.string();
  opened.config = read_config(Metadata(file, architecture));
  opened.files = {file.shared_file()};
  opened.tensors = file.tensors();
  opened.source = [config = opened.config, fused = architecture == "gpt2"](
                      Weight weight, int layer) { return source(config, fused, weight, layer); };
  opened.layer_prefix = "blk.";
  opened.ignores = [](std::string_view tensor) { return tensor.ends_with(".attn_rot_embd"); };
  return opened;
}

}  // namespace plumb
