// Gemma 1, 2 and 3 (text): Llama with scaled embeddings, norms whose gains are stored less 1, and
// from 2 on norms on writes too, windows, soft caps and a query scale of their own.
#include <cmath>
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

constexpr double usual_scalar = 256;

LlamaDefaults defaults() {
  return {.d_head = 256, .context = 8192, .tied = true, .activation = "gelu_pytorch_tanh"};
}

void finish(const Fields& fields, ModelConfig& config) {
  config.embed_scale = std::sqrt(static_cast<double>(config.d_model));
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
}

ModelConfig read_gemma(const Fields& fields) {
  LlamaDefaults form = defaults();
  form.kv_heads = 16;
  ModelConfig config = read_llama_like(fields, form);
  // The first release says "gelu" and means the form with tanh.
  if (config.activation == Activation::gelu) config.activation = Activation::gelu_tanh;
  finish(fields, config);
  return config;
}

double read_cap(const Fields& fields, const char* field, double fallback) {
  if (fields.json().contains(field) && !fields.has(field)) return 0.0;  // null: none
  const double cap = fields.number(field, 0, 1e12, fallback);
  if (fields.has(field) && cap == 0.0) fields.wrong(field, "positive, or null");
  return cap;
}

/// What Gemma 2 and 3 share beyond the first.
void read_later(const Fields& fields, ModelConfig& config) {
  config.norm_place = NormPlace::both;
  const double scalar = fields.number("query_pre_attn_scalar", 1e-12, 1e12, usual_scalar);
  if (scalar != config.d_head) config.attention_scale = 1.0 / std::sqrt(scalar);
  finish(fields, config);
}

ModelConfig read_gemma2(const Fields& fields) {
  LlamaDefaults form = defaults();
  form.kv_heads = 4;
  form.activation_field = "hidden_activation";
  form.reads = {"query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"};
  ModelConfig config = read_llama_like(fields, form);
  read_later(fields, config);
  config.score_cap = read_cap(fields, "attn_logit_softcapping", 50);
  config.logit_cap = read_cap(fields, "final_logit_softcapping", 30);
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) sliding.push_back(layer % 2 == 0);
  config.windows = read_layer_windows(fields, sliding, 4096);
  return config;
}

ModelConfig read_gemma3(const Fields& fields) {
  LlamaDefaults form = defaults();
  form.kv_heads = 4;
  form.context = 131072;
  form.activation_field = "hidden_activation";
  form.rope_by_layer = true;
  // The reference does not apply attn_logit_softcapping here, so that field stays refused.
  form.reads = {"query_pre_attn_scalar", "final_logit_softcapping", "rope_local_base_freq"};
  ModelConfig config = read_llama_like(fields, form);
  read_later(fields, config);
  config.qk_norm = QkNorm::head;
  config.logit_cap = read_cap(fields, "final_logit_softcapping", 0);
  const std::int64_t pattern = fields.integer("sliding_window_pattern", 1, INT32_MAX, 6);
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) sliding.push_back((layer + 1) % pattern != 0);
  config.windows = read_layer_windows(fields, sliding, 4096);
  const LayerRopes ropes =
      read_layer_ropes(fields, config.d_head, config.context, {.theta = 1'000'000},
                       {.theta = 10000, .theta_field = "rope_local_base_freq"});
  config.rope = ropes.full;
  config.window_rope = ropes.window;
  return config;
}

Source source(const ModelConfig& config, Weight weight, int layer) {
  Source source = llama_like_source(config, weight, layer);
  switch (weight) {
    case Weight::ln1:
    case Weight::ln1_post:
    case Weight::ln2:
    case Weight::ln2_post:
    case Weight::q_norm:
    case Weight::k_norm:
    case Weight::final_norm: source.offset = 1.0; break;
    default: break;
  }
  return source;
}

Json write_gemma(const ModelConfig& config) {
  Json json = write_llama_like(config, "GemmaForCausalLM");
  json["hidden_act"] =
      config.activation == Activation::gelu_tanh ? "gelu_pytorch_tanh" : json["hidden_act"];
  json["attention_bias"] = config.qkv_bias;
  return json;
}

Json cap_or_null(double cap) { return cap > 0 ? Json(cap) : Json(); }

Json write_later(const ModelConfig& config, const char* architecture) {
  Json json = write_llama_like(config, architecture);
  json["hidden_activation"] = json["hidden_act"];
  json["attention_bias"] = config.qkv_bias;
  const double scalar = 1.0 / (config.attention_scale * config.attention_scale);
  const bool whole = 1.0 / std::sqrt(std::round(scalar)) == config.attention_scale;
  json["query_pre_attn_scalar"] = config.attention_scale == 0.0 ? config.d_head
                                  : whole                       ? std::round(scalar)
                                                                : scalar;
  json["final_logit_softcapping"] = cap_or_null(config.logit_cap);
  write_layer_windows(config, json);
  return json;
}

Json write_gemma2(const ModelConfig& config) {
  Json json = write_later(config, "Gemma2ForCausalLM");
  json["attn_logit_softcapping"] = cap_or_null(config.score_cap);
  return json;
}

Json write_gemma3(const ModelConfig& config) {
  Json json = write_later(config, "Gemma3ForCausalLM");
  if (config.window_rope.dims > 0) json["rope_local_base_freq"] = config.window_rope.theta;
  return json;
}

}  // namespace

const Family gemma_family = {.name = "gemma",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read_gemma,
                             .source = source,
                             .ignores = llama_like_ignores,
                             .write = write_gemma};

const Family gemma2_family = {.name = "gemma2",
                              .prefix = "model.",
                              .layers = "layers.",
                              .read = read_gemma2,
                              .source = source,
                              .ignores = llama_like_ignores,
                              .write = write_gemma2};

const Family gemma3_family = {.name = "gemma3_text",
                              .prefix = "model.",
                              .layers = "layers.",
                              .read = read_gemma3,
                              .source = source,
                              .ignores = llama_like_ignores,
                              .write = write_gemma3};

}  // namespace plumb
