// OLMoE: Llama with experts in every layer and RMSNorm over all of q and of k.
#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/llama_moe.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  if (fields.has("head_dim")) {
    fields.unsupported("head_dim", "which model_type olmoe does not have");
  }
  ModelConfig config = read_llama_like(
      fields, {.context = 4096, .reads = {"num_experts", "num_local_experts", "clip_qkv"}});
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  config.qk_norm = QkNorm::whole;
  if (fields.has("clip_qkv")) config.qkv_clip = fields.number("clip_qkv", 1e-6, 1e6);
  config.experts = read_experts(fields, "intermediate_size");
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "OlmoeForCausalLM");
  json.erase("head_dim");
  json["attention_bias"] = config.qkv_bias;
  json["clip_qkv"] = config.qkv_clip > 0 ? Json(config.qkv_clip) : Json();
  write_experts(config, "intermediate_size", json);
  return json;
}

}  // namespace

const Family olmoe_family = {.name = "olmoe",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read,
                             .source = llama_moe_source,
                             .ignores = llama_like_ignores,
                             .write = write};

}  // namespace plumb
