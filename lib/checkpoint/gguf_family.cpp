// A GGUF file as a model: what all architectures have in common.
#include <fmt/format.h>

#include "checkpoint/gguf_architecture.h"
#include "checkpoint/opened.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

void read_norm(const GgufMetadata& metadata, ModelConfig& config) {
  constexpr const char* rms = "attention.layer_norm_rms_epsilon";
  constexpr const char* layer = "attention.layer_norm_epsilon";
  if (!metadata.has(rms) && !metadata.has(layer)) {
    metadata.bad(fmt::format("metadata key {} is missing, and so is {}", metadata.key(rms),
                             metadata.key(layer)));
  }
  config.norm = metadata.has(rms) ? Norm::rms : Norm::layer;
  config.norm_eps = metadata.number(metadata.has(rms) ? rms : layer);
}

void read_sizes(const GgufMetadata& metadata, ModelConfig& config) {
  constexpr int most_layers = 100'000;
  config.layers = metadata.count("block_count");
  if (config.layers > most_layers) {
    metadata.bad(fmt::format("metadata key {} should be an integer from 1 to {}, but is {}",
                             metadata.key("block_count"), most_layers, config.layers));
  }
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
  const StoredTensor* embedding = metadata.tensor("token_embd.weight");
  if (embedding == nullptr) metadata.bad("tensor \"token_embd.weight\" is missing");
  const std::int64_t rows = embedding->info.shape.front();
  if (rows > INT32_MAX) metadata.bad("tensor \"token_embd.weight\" has too many rows");
  config.vocab = metadata.count("vocab_size", static_cast<int>(rows));
}

ModelConfig read_config(const GgufMetadata& metadata, const GgufArchitecture& architecture) {
  ModelConfig config;
  config.family = architecture.family;
  read_sizes(metadata, config);
  read_norm(metadata, config);
  config.tied = !metadata.has_tensor("output.weight");
  config.qkv_bias =
      metadata.has_tensor("blk.0.attn_q.bias") || metadata.has_tensor("blk.0.attn_qkv.bias");
  config.out_bias = metadata.has_tensor("blk.0.attn_output.bias");
  config.mlp_bias = metadata.has_tensor("blk.0.ffn_up.bias");
  config.attention_scale = metadata.number("attention.scale", 0);
  architecture.read(metadata, config);
  if (!metadata.flag("attention.causal", true)) metadata.unhandled("attention.causal");
  metadata.refuse_unread();
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
    case Weight::ln1_post: return "post_attention_norm";
    case Weight::ln2:
    case Weight::ln2_bias: return "ffn_norm";
    case Weight::ln2_post: return "post_ffw_norm";
    case Weight::gate:
    case Weight::gate_bias: return "ffn_gate";
    case Weight::up:
    case Weight::up_bias: return "ffn_up";
    case Weight::down:
    case Weight::down_bias: return "ffn_down";
    default: break;  // no such weight in these architectures
  }
  return "none";
}

Source source(const ModelConfig& config, const GgufArchitecture& architecture, Weight weight,
              int layer) {
  const bool bias = std::string_view(to_string(weight)).ends_with("_bias");
  const char* name = stem(weight);
  Source source;
  source.tensor = is_per_layer(weight) ? fmt::format("blk.{}.{}", layer, name) : name;
  source.tensor += bias ? ".bias" : ".weight";
  if (architecture.place != nullptr) architecture.place(config, weight, layer, source);
  return source;
}

const GgufArchitecture& architecture_of(const GgufModel& model) {
  const std::string_view name = model.head.text("general.architecture");
  if (const GgufArchitecture* found = find_gguf_architecture(name)) return *found;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{}: architecture {} is not handled; plumb knows {}",
                  model.head.file().path().string(), printable(name), gguf_architecture_names()));
}

}  // namespace

Opened open_gguf(const std::filesystem::path& path) {
  GgufModel model = open_gguf_parts(path);
  const GgufArchitecture& architecture = architecture_of(model);
  Opened opened;
  opened.format = "gguf";
  opened.where = path.string();
  opened.config = read_config(GgufMetadata(model), architecture);
  opened.files = std::move(model.files);
  opened.tensors = std::move(model.tensors);
  opened.source = [config = opened.config, &architecture](Weight weight, int layer) {
    return source(config, architecture, weight, layer);
  };
  opened.layer_prefix = "blk.";
  opened.ignores = [](std::string_view tensor) { return tensor.ends_with(".attn_rot_embd"); };
  return opened;
}

}  // namespace plumb
