#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"

namespace plumb {
namespace {

ModelConfig read(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {});
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  config.mlp_bias = fields.flag("mlp_bias", false);
  // The reference implementation of this model type would silently rotate every layer.
  if (fields.has("no_rope_layers")) {
    for (const std::int64_t rotates : fields.integers("no_rope_layers", 0, 1)) {
      if (rotates == 0) {
        fields.unsupported("no_rope_layers", "which model_type llama does not have; say smollm3");
      }
    }
  }
  return config;
}

Json write(const ModelConfig& config) {
  Json json = write_llama_like(config, "LlamaForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  json["mlp_bias"] = config.mlp_bias;
  return json;
}

}  // namespace

const Family llama_family = {.name = "llama",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read,
                             .source = llama_like_source,
                             .ignores = llama_like_ignores,
                             .write = write};

}  // namespace plumb
