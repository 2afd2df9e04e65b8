// A GGUF file as a model: what all architectures have in common.
#include <fmt/format.h>

#include <algorithm>

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

std::string in_block(int layer, std::string_view name) {
  return fmt::format("blk.{}.{}", layer, name);
}

/// The first layer with experts; -1 where no tensor is a router's.
int first_sparse(const GgufMetadata& metadata, int layers) {
  for (int layer = 0; layer < layers; ++layer) {
    if (metadata.has_tensor(in_block(layer, "ffn_gate_inp.weight"))) return layer;
  }
  return -1;
}

/// Neurons of an expert: rows of its stored matrix, where no key says.
int rows_of(const GgufMetadata& metadata, const std::string& tensor, int fallback) {
  const StoredTensor* stored = metadata.tensor(tensor);
  if (stored == nullptr || stored->info.shape.size() < 2) return fallback;
  const std::int64_t rows = stored->info.shape[stored->info.shape.size() - 2];
  return rows > INT32_MAX ? fallback : static_cast<int>(rows);
}

/// What the keys and tensors say about experts; the architecture knows how they are weighed.
void read_experts(const GgufMetadata& metadata, ModelConfig& config) {
  Experts& experts = config.experts;
  experts.count = metadata.count_or_none("expert_count");
  if (experts.count == 0) return;
  experts.per_token = metadata.count("expert_used_count");
  const int sparse = first_sparse(metadata, config.layers);
  if (sparse < 0) {
    metadata.bad(fmt::format("metadata key {} is {}, but no tensor is called \"{}\"",
                             metadata.key("expert_count"), experts.count,
                             in_block(0, "ffn_gate_inp.weight")));
  }
  const auto has = [&](const char* name) { return metadata.has_tensor(in_block(sparse, name)); };
  experts.width =
      metadata.count("expert_feed_forward_length",
                     rows_of(metadata, in_block(sparse, "ffn_gate_exps.weight"), config.d_mlp));
  if (has("ffn_gate_shexp.weight")) {
    experts.shared_width =
        metadata.count("expert_shared_feed_forward_length",
                       rows_of(metadata, in_block(sparse, "ffn_gate_shexp.weight"), config.d_mlp));
    experts.shared_gated = has("ffn_gate_inp_shexp.weight");
  }
  experts.router_bias = has("ffn_gate_inp.bias");
  experts.biases = has("ffn_up_exps.bias");
  for (int layer = 0; layer < config.layers; ++layer) {
    experts.layers.push_back(metadata.has_tensor(in_block(layer, "ffn_gate_inp.weight")) ? 1 : 0);
  }
  if (std::ranges::count(experts.layers, 0) == 0) experts.layers.clear();
  const double scale = metadata.number("expert_weights_scale", 0);
  if (scale != 0 && scale != 1) metadata.unhandled("expert_weights_scale");
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
  if (architecture.experts) read_experts(metadata, config);
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
    case Weight::sinks: return "attn_sinks";
    case Weight::router:
    case Weight::router_bias: return "ffn_gate_inp";
    case Weight::expert_gate:
    case Weight::expert_gate_bias: return "ffn_gate_exps";
    case Weight::expert_up:
    case Weight::expert_up_bias: return "ffn_up_exps";
    case Weight::expert_down:
    case Weight::expert_down_bias: return "ffn_down_exps";
    case Weight::shared_router: return "ffn_gate_inp_shexp";
    case Weight::shared_gate: return "ffn_gate_shexp";
    case Weight::shared_up: return "ffn_up_shexp";
    case Weight::shared_down: return "ffn_down_shexp";
    default: break;  // no such weight in these architectures
  }
  return "none";
}

/// How the file at hand departs from today's form.
struct Form {
  bool split_experts = false;  ///< a tensor for each expert, as the first files with experts have
  bool flat_shared_gate = false;  ///< the one row of the shared expert's gate is a vector
};

Form form_of(const GgufModel& model) {
  const auto flat = [](const StoredTensor& tensor) {
    return tensor.info.name.ends_with(".ffn_gate_inp_shexp.weight") &&
           tensor.info.shape.size() == 1;
  };
  return {.split_experts = find_tensor(model.tensors, "blk.0.ffn_gate.0.weight") != nullptr,
          .flat_shared_gate = std::ranges::any_of(model.tensors, flat)};
}

Source source(const ModelConfig& config, const GgufArchitecture& architecture, const Form& form,
              Weight weight, int layer) {
  const bool bias = std::string_view(to_string(weight)).ends_with("_bias");
  const char* name = stem(weight);
  Source source;
  source.tensor = is_per_layer(weight) ? fmt::format("blk.{}.{}", layer, name) : name;
  source.tensor += bias ? ".bias" : ".weight";
  if (form.split_experts && is_per_expert(weight)) {
    std::string_view merged = name;
    merged.remove_suffix(std::string_view("_exps").size());
    source.tensor = in_block(layer, merged) + ".";
    source.after_expert = ".weight";
  }
  source.flat = weight == Weight::shared_router && form.flat_shared_gate;
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
  const Form form = form_of(model);
  opened.files = std::move(model.files);
  opened.tensors = std::move(model.tensors);
  opened.source = [config = opened.config, &architecture, form](Weight weight, int layer) {
    return source(config, architecture, form, weight, layer);
  };
  opened.layer_prefix = "blk.";
  opened.ignores = [](std::string_view tensor) { return tensor.ends_with(".attn_rot_embd"); };
  return opened;
}

}  // namespace plumb
