// OLMo: Llama with LayerNorm that has neither gain nor bias. OLMo 2 and 3: RMSNorm on what
// attention and MLP write, and on the whole projections to q and k; 3 has windows, unscaled
// rotation in them.
#include <cstddef>

#include "checkpoint/families.h"
#include "checkpoint/llama_like.h"
#include "checkpoint/rope_config.h"

namespace plumb {
namespace {

constexpr double olmo3_theta = 500'000;

ModelConfig read_olmo(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {.reads = {"clip_qkv"}});
  config.norm = Norm::layer;
  config.norm_gain = config.norm_bias = false;
  config.norm_eps = 1e-5;
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
  config.qkv_clip = fields.number("clip_qkv", 1e-12, 1e12, 0);
  return config;
}

void read_later(const Fields& fields, ModelConfig& config) {
  config.norm_place = NormPlace::after;
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1, 1e-5);
  config.qk_norm = QkNorm::whole;
  config.qkv_bias = config.out_bias = fields.flag("attention_bias", false);
}

ModelConfig read_olmo2(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {});
  read_later(fields, config);
  return config;
}

ModelConfig read_olmo3(const Fields& fields) {
  ModelConfig config = read_llama_like(fields, {.rope_by_layer = true});
  read_later(fields, config);
  std::vector<bool> sliding;
  for (int layer = 0; layer < config.layers; ++layer) sliding.push_back((layer + 1) % 4 != 0);
  config.windows = read_layer_windows(fields, sliding, 4096);
  // In the older form of config.json the reference gives rope_theta to the full layers alone.
  if (fields.has("rope_theta") && !config.windows.empty() &&
      fields.number("rope_theta", 0, 1e12) != olmo3_theta) {
    fields.unsupported("rope_theta",
                       "but layers with a window then rotate by 500000; say both in "
                       "rope_parameters");
  }
  const LayerRopes ropes = read_layer_ropes(fields, config.d_head, config.context,
                                            {.theta = olmo3_theta}, {.theta = olmo3_theta});
  config.rope = ropes.full;
  config.window_rope = ropes.window;
  return config;
}

Json write_olmo(const ModelConfig& config) {
  Json json = write_llama_like(config, "OlmoForCausalLM");
  json.erase("rms_norm_eps");
  json["attention_bias"] = config.qkv_bias;
  json["clip_qkv"] = config.qkv_clip > 0 ? Json(config.qkv_clip) : Json();
  return json;
}

Json write_olmo2(const ModelConfig& config) {
  Json json = write_llama_like(config, "Olmo2ForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  return json;
}

Json write_olmo3(const ModelConfig& config) {
  Json json = write_llama_like(config, "Olmo3ForCausalLM");
  json["attention_bias"] = config.qkv_bias;
  Json full = json["rope_scaling"].is_null() ? Json::object() : json["rope_scaling"];
  if (!full.contains("rope_type")) full["rope_type"] = "default";
  full["rope_theta"] = config.rope.theta;
  const Rope& window = config.window_rope.dims > 0 ? config.window_rope : config.rope;
  json["rope_parameters"] = {
      {"full_attention", full},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", window.theta}}}};
  json.erase("rope_scaling");
  json.erase("rope_theta");
  write_layer_windows(config, json);
  return json;
}

}  // namespace

const Family olmo_family = {.name = "olmo",
                            .prefix = "model.",
                            .layers = "layers.",
                            .read = read_olmo,
                            .source = llama_like_source,
                            .ignores = llama_like_ignores,
                            .write = write_olmo};

const Family olmo2_family = {.name = "olmo2",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read_olmo2,
                             .source = llama_like_source,
                             .ignores = llama_like_ignores,
                             .write = write_olmo2};

const Family olmo3_family = {.name = "olmo3",
                             .prefix = "model.",
                             .layers = "layers.",
                             .read = read_olmo3,
                             .source = llama_like_source,
                             .ignores = llama_like_ignores,
                             .write = write_olmo3};

}  // namespace plumb
