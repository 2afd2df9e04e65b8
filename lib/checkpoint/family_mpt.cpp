// MPT: LayerNorm without biases, no biases at all, and a bias on the scores that grows with the
// distance (ALiBi) for positions.
#include <fmt/format.h>

#include <cmath>

#include "checkpoint/families.h"

namespace plumb {
namespace {

/// Fields whose other values make another model.
void refuse_other_forms(const Fields& fields, const Fields& attention) {
  if (attention.text("attn_type", "multihead_attention") != "multihead_attention") {
    attention.unsupported("attn_type", "but plumb handles only multihead_attention");
  }
  for (const char* field : {"prefix_lm", "qk_ln"}) {
    if (attention.flag(field, false)) attention.unsupported(field, "which plumb does not handle");
  }
  if (!attention.flag("alibi", true)) {
    attention.unsupported("alibi", "but this family has no other positions");
  }
  if (!fields.flag("no_bias", true)) {
    fields.unsupported("no_bias", "but plumb handles only true");
  }
  if (fields.number("expansion_ratio", 0, 1e12, 4) != 4) {
    fields.unsupported("expansion_ratio", "but the reference's MLP is always 4 times d_model wide");
  }
}

ModelConfig read(const Fields& fields) {
  refuse_foreign_fields(fields);
  const Json none = Json::object();
  const Fields attention =
      fields.has("attn_config") ? fields.object("attn_config") : Fields(none, fields.where());
  refuse_other_forms(fields, attention);
  const auto count = [&](const char* field) {
    return static_cast<int>(fields.integer(field, 1, INT32_MAX));
  };
  ModelConfig config;
  config.norm = Norm::layer;
  config.norm_bias = false;
  config.positions = Positions::alibi;
  config.gated_mlp = false;
  config.activation = Activation::gelu;
  config.layers = static_cast<int>(fields.integer("n_layers", 1, 100'000));
  config.heads = config.kv_heads = count("n_heads");
  config.d_model = count("d_model");
  config.vocab = count("vocab_size");
  config.context = static_cast<int>(fields.integer("max_seq_len", 1, INT32_MAX, 2048));
  if (config.d_model % config.heads != 0) {
    fields.wrong("d_model", fmt::format("a multiple of n_heads ({})", config.heads));
  }
  config.d_head = config.d_model / config.heads;
  if (config.d_model > INT32_MAX / 4) fields.wrong("d_model", "smaller");
  config.d_mlp = 4 * config.d_model;
  config.norm_eps = fields.number("layer_norm_epsilon", 1e-30, 1, 1e-5);
  config.tied = fields.flag("tie_word_embeddings", true);
  config.alibi_bias = static_cast<double>(attention.integer("alibi_bias_max", 1, 1000, 8));
  config.qkv_clip = attention.number("clip_qkv", 0, 1e12, 0);
  config.attention_scale = attention.number("softmax_scale", 0, 1e12, 0);
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  const auto top = [](const char* name) { return Source{.tensor = name}; };
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("transformer.blocks.{}.{}", layer, name)};
  };
  const auto fused = [&](std::int64_t part) {
    Source source = at("attn.Wqkv.weight");
    source.first = part * config.d_model;
    source.outputs = std::int64_t{3} * config.d_model;
    return source;
  };
  switch (weight) {
    case Weight::embed: return top("transformer.wte.weight");
    case Weight::final_norm: return top("transformer.norm_f.weight");
    case Weight::unembed: return top("lm_head.weight");
    case Weight::ln1: return at("norm_1.weight");
    case Weight::ln2: return at("norm_2.weight");
    case Weight::q: return fused(0);
    case Weight::k: return fused(1);
    case Weight::v: return fused(2);
    case Weight::out: return at("attn.out_proj.weight");
    case Weight::up: return at("ffn.up_proj.weight");
    case Weight::down: return at("ffn.down_proj.weight");
    default: break;  // no such weight in this family
  }
  return {};
}

bool ignores(std::string_view) { return false; }

Json write(const ModelConfig& config) {
  Json attention = {
      {"alibi", true},
      {"alibi_bias_max", static_cast<int>(std::lround(config.alibi_bias))},
      {"attn_type", "multihead_attention"},
      {"clip_qkv", config.qkv_clip > 0 ? Json(config.qkv_clip) : Json()},
      {"softmax_scale", config.attention_scale > 0 ? Json(config.attention_scale) : Json()}};
  return {
      {"architectures", {"MptForCausalLM"}},
      {"model_type", "mpt"},
      {"n_layers", config.layers},
      {"n_heads", config.heads},
      {"d_model", config.d_model},
      {"expansion_ratio", 4},
      {"max_seq_len", config.context},
      {"vocab_size", config.vocab},
      {"layer_norm_epsilon", config.norm_eps},
      {"no_bias", true},
      {"attn_config", attention},
      {"tie_word_embeddings", config.tied},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
}

}  // namespace

const Family mpt_family = {.name = "mpt",
                           .prefix = "transformer.",
                           .layers = "blocks.",
                           .read = read,
                           .source = source,
                           .ignores = ignores,
                           .write = write};

}  // namespace plumb
