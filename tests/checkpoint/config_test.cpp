#include "plumb/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/config_fields.h"
#include "checkpoint/families.h"
#include "checkpoint/files.h"

namespace plumb {
namespace {

using test::expect_error;

Json llama_json() {
  return {{"model_type", "llama"},  {"hidden_size", 64},        {"intermediate_size", 96},
          {"num_hidden_layers", 3}, {"num_attention_heads", 8}, {"num_key_value_heads", 4},
          {"vocab_size", 100},      {"rms_norm_eps", 1e-5},     {"max_position_embeddings", 512},
          {"rope_theta", 10000.0},  {"hidden_act", "silu"},     {"tie_word_embeddings", true}};
}

Json gpt2_json() {
  return {{"n_layer", 2}, {"n_head", 4}, {"n_embd", 32}, {"n_positions", 16}, {"vocab_size", 50}};
}

ModelConfig read(const std::string& family, const Json& json) {
  return find_family(family)->read(Fields(json, "config.json"));
}

Json with(Json json, const std::string& field, Json value) {
  json[field] = std::move(value);
  return json;
}

void refuses(const std::string& family, const Json& json, ErrorKind kind,
             const std::vector<std::string>& parts) {
  expect_error([&] { read(family, json); }, kind, parts);
}

TEST(LlamaConfig, ReadsItsFields) {
  const ModelConfig config = read("llama", llama_json());
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.d_model, 64);
  EXPECT_EQ(config.d_head, 8);
  EXPECT_EQ(config.d_mlp, 96);
  EXPECT_EQ(config.vocab, 100);
  EXPECT_EQ(config.context, 512);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.rope.dims, 8);
  EXPECT_TRUE(config.tied && config.gated_mlp && !config.qkv_bias && !config.mlp_bias);
  EXPECT_TRUE(config.windows.empty() && config.rope_layers.empty());
}

TEST(LlamaConfig, FallsBackToTheReferenceDefaults) {
  Json json = llama_json();
  for (const char* field : {"num_key_value_heads", "rms_norm_eps", "max_position_embeddings",
                            "rope_theta", "hidden_act", "tie_word_embeddings"}) {
    json.erase(field);
  }
  const ModelConfig config = read("llama", json);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.context, 2048);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_FALSE(config.tied);
}

TEST(LlamaConfig, ReadsBiasesHeadSizeAndActivation) {
  Json json = with(with(llama_json(), "attention_bias", true), "mlp_bias", true);
  json["head_dim"] = 24;
  json["hidden_act"] = "gelu_pytorch_tanh";
  const ModelConfig config = read("llama", json);
  EXPECT_TRUE(config.qkv_bias && config.out_bias && config.mlp_bias);
  EXPECT_EQ(config.d_head, 24);
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
}

TEST(LlamaConfig, RefusesMissingAndImpossibleFields) {
  for (const char* field : {"hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "vocab_size"}) {
    Json json = llama_json();
    json.erase(field);
    refuses("llama", json, ErrorKind::bad_file, {"config.json", field, "missing"});
    for (const Json& wrong :
         {Json(0), Json(-1), Json(1.5), Json("8"), Json(1e18), Json(1ULL << 40)}) {
      refuses("llama", with(llama_json(), field, wrong), ErrorKind::bad_file, {field});
    }
  }
  refuses("llama", with(llama_json(), "num_attention_heads", 7), ErrorKind::bad_file,
          {"hidden_size", "multiple", "7"});
  refuses("llama", with(llama_json(), "rms_norm_eps", 0), ErrorKind::bad_file, {"rms_norm_eps"});
  refuses("llama", with(llama_json(), "rope_theta", -1), ErrorKind::bad_file, {"rope_theta"});
}

TEST(LlamaConfig, RefusesWhatWouldChangeTheForwardPass) {
  const std::vector<std::pair<std::string, Json>> foreign = {
      {"hidden_act", "xielu"},
      {"quantization_config", {{"bits", 4}}},
      {"logits_scaling", 8.0},
      {"residual_multiplier", 0.22},
      {"embedding_multiplier", 12},
      {"attention_multiplier", 0.0078125},
      {"final_logit_softcapping", 30.0},
      {"num_local_experts", 8},
      {"partial_rotary_factor", 0.5},
      {"no_rope_layers", {1, 0, 1}},
      {"is_causal", false},
  };
  for (const auto& [field, value] : foreign) {
    refuses("llama", with(llama_json(), field, value), ErrorKind::unsupported,
            {"config.json", field});
  }
  const std::vector<std::pair<std::string, Json>> neutral = {{"quantization_config", nullptr},
                                                             {"logits_scaling", 1.0},
                                                             {"num_local_experts", 0},
                                                             {"pretraining_tp", 2},
                                                             {"no_rope_layers", {1, 1, 1}}};
  for (const auto& [field, value] : neutral) {
    EXPECT_EQ(first_difference(read("llama", with(llama_json(), field, value)),
                               read("llama", llama_json())),
              "")
        << field;
  }
}

Rope rope_of(const char* holder, const Json& scaling) {
  return read("llama", with(llama_json(), holder, scaling)).rope;
}

TEST(RopeConfig, ReadsEveryScaling) {
  for (const char* type_key : {"type", "rope_type"}) {
    const Rope linear = rope_of("rope_scaling", {{type_key, "linear"}, {"factor", 4.0}});
    EXPECT_EQ(linear.scaling, RopeScaling::linear);
    EXPECT_EQ(linear.factor, 4.0);
  }
  const Rope dynamic = rope_of("rope_scaling", {{"type", "dynamic"}, {"factor", 2}});
  EXPECT_EQ(dynamic.scaling, RopeScaling::dynamic);
  EXPECT_EQ(dynamic.original_context, 512);
  const Rope llama3 = rope_of("rope_scaling", {{"rope_type", "llama3"},
                                               {"factor", 8.0},
                                               {"low_freq_factor", 1.0},
                                               {"high_freq_factor", 4.0},
                                               {"original_max_position_embeddings", 128}});
  EXPECT_EQ(llama3.scaling, RopeScaling::llama3);
  EXPECT_EQ(llama3.original_context, 128);
  EXPECT_EQ(llama3.low_freq_factor, 1.0);
  EXPECT_EQ(llama3.high_freq_factor, 4.0);
  EXPECT_EQ(rope_of("rope_scaling", {{"rope_type", "default"}}).scaling, RopeScaling::none);
}

TEST(RopeConfig, ReadsTheNewForm) {
  Json json = llama_json();
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_theta", 250.0}, {"rope_type", "linear"}, {"factor", 2.0}};
  const Rope rope = read("llama", json).rope;
  EXPECT_EQ(rope.theta, 250.0);
  EXPECT_EQ(rope.scaling, RopeScaling::linear);
  EXPECT_EQ(rope.factor, 2.0);
}

TEST(RopeConfig, InfersYarnsAttentionFactor) {
  Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}};
  Rope rope = rope_of("rope_scaling", yarn);
  EXPECT_EQ(rope.scaling, RopeScaling::yarn);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_TRUE(rope.truncate);
  yarn["mscale"] = 0.5;
  yarn["mscale_all_dim"] = 2.0;
  EXPECT_DOUBLE_EQ(rope_of("rope_scaling", yarn).attention_factor,
                   (0.05 * std::log(4.0) + 1) / (0.2 * std::log(4.0) + 1));
  yarn["attention_factor"] = 1.25;
  yarn["truncate"] = false;
  rope = rope_of("rope_scaling", yarn);
  EXPECT_EQ(rope.attention_factor, 1.25);
  EXPECT_FALSE(rope.truncate);
  yarn.erase("factor");
  EXPECT_EQ(rope_of("rope_scaling", yarn).factor, 4.0);  // 512 / 128
}

TEST(RopeConfig, RefusesUnknownTypesAndMissingNumbers) {
  refuses("llama", with(llama_json(), "rope_scaling", {{"type", "other"}, {"factor", 2.0}}),
          ErrorKind::unsupported, {"rope_scaling", "\"other\""});
  refuses("llama", with(llama_json(), "rope_scaling", {{"type", "linear"}}), ErrorKind::bad_file,
          {"rope_scaling", "factor", "missing"});
  refuses("llama", with(llama_json(), "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}),
          ErrorKind::bad_file, {"low_freq_factor"});
  refuses("llama", with(llama_json(), "rope_scaling", "linear"), ErrorKind::bad_file,
          {"rope_scaling", "object"});
  refuses("llama",
          with(llama_json(), "rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
          ErrorKind::unsupported, {"full_attention"});
}

TEST(QwenConfig, HasItsBiasesAndNorms) {
  const ModelConfig qwen2 = read("qwen2", llama_json());
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.out_bias && qwen2.qk_norm == QkNorm::none);
  const ModelConfig qwen3 = read("qwen3", llama_json());
  EXPECT_TRUE(!qwen3.qkv_bias && qwen3.qk_norm == QkNorm::head);
  EXPECT_EQ(qwen3.d_head, 128);
}

TEST(QwenConfig, HasWindowsOnlyWhereTheyAreUsed) {
  Json json = with(llama_json(), "sliding_window", 16);
  EXPECT_TRUE(read("qwen2", json).windows.empty());
  json["use_sliding_window"] = true;
  json["max_window_layers"] = 1;
  EXPECT_EQ(read("qwen2", json).windows, (std::vector<int>{0, 16, 16}));
  json["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(read("qwen3", json).windows, (std::vector<int>{16, 0, 16}));
  json["layer_types"] = {"chunked_attention", "full_attention", "full_attention"};
  refuses("qwen2", json, ErrorKind::unsupported, {"layer_types"});
  json["layer_types"] = {"full_attention"};
  refuses("qwen2", json, ErrorKind::bad_file, {"layer_types", "3"});
  json["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  json["use_sliding_window"] = false;
  refuses("qwen2", json, ErrorKind::bad_file, {"layer_types"});
}

TEST(MistralConfig, HasOneWindowUnlessItIsNull) {
  EXPECT_EQ(read("mistral", with(llama_json(), "sliding_window", 9)).windows,
            (std::vector<int>{9, 9, 9}));
  EXPECT_TRUE(read("mistral", with(llama_json(), "sliding_window", nullptr)).windows.empty());
  EXPECT_EQ(read("mistral", llama_json()).windows, (std::vector<int>{4096, 4096, 4096}));
}

TEST(Smollm3Config, LeavesSomeLayersUnrotated) {
  Json json = llama_json();
  json["no_rope_layers"] = {1, 0, 1};
  EXPECT_EQ(read("smollm3", json).rope_layers, (std::vector<std::uint8_t>{1, 0, 1}));
  json["no_rope_layers"] = {1, 0};
  refuses("smollm3", json, ErrorKind::bad_file, {"no_rope_layers", "3"});
  json["no_rope_layers"] = {1, 2, 1};
  refuses("smollm3", json, ErrorKind::bad_file, {"no_rope_layers"});
  json.erase("no_rope_layers");
  json["no_rope_layer_interval"] = 2;
  EXPECT_EQ(read("smollm3", json).rope_layers, (std::vector<std::uint8_t>{1, 0, 1}));
}

TEST(Gpt2Config, ReadsItsFields) {
  const ModelConfig config = read("gpt2", gpt2_json());
  EXPECT_EQ(config.norm, Norm::layer);
  EXPECT_EQ(config.positions, Positions::learned);
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
  EXPECT_EQ(config.d_mlp, 128);
  EXPECT_EQ(config.d_head, 8);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_TRUE(config.tied && config.qkv_bias && config.out_bias && config.mlp_bias);
  EXPECT_FALSE(config.gated_mlp);
  EXPECT_EQ(read("gpt2", with(gpt2_json(), "n_inner", 40)).d_mlp, 40);
}

TEST(Gpt2Config, RefusesWhatWouldChangeTheForwardPass) {
  refuses("gpt2", with(gpt2_json(), "scale_attn_weights", false), ErrorKind::unsupported,
          {"scale_attn_weights"});
  refuses("gpt2", with(gpt2_json(), "scale_attn_by_inverse_layer_idx", true),
          ErrorKind::unsupported, {"scale_attn_by_inverse_layer_idx"});
  refuses("gpt2", with(gpt2_json(), "add_cross_attention", true), ErrorKind::unsupported,
          {"add_cross_attention"});
  refuses("gpt2", with(gpt2_json(), "activation_function", "tanh"), ErrorKind::unsupported,
          {"activation_function", "\"tanh\""});
  refuses("gpt2", with(gpt2_json(), "n_head", 5), ErrorKind::bad_file, {"n_embd", "n_head"});
}

TEST(ModelConfig, CheckNamesTheContradiction) {
  const ModelConfig sound = read("llama", llama_json());
  EXPECT_NO_THROW(check(sound));
  const std::vector<std::pair<std::function<void(ModelConfig&)>, std::string>> wrong = {
      {[](ModelConfig& c) { c.layers = 0; }, "layers"},
      {[](ModelConfig& c) { c.context = -1; }, "context"},
      {[](ModelConfig& c) { c.kv_heads = 3; }, "kv_heads"},
      {[](ModelConfig& c) { c.heads = c.kv_heads = 1 << 28; }, "too large"},
      {[](ModelConfig& c) { c.norm_eps = std::nan(""); }, "norm_eps"},
      {[](ModelConfig& c) { c.rope.dims = 7; }, "rope.dims"},
      {[](ModelConfig& c) { c.rope.dims = 10; }, "rope.dims"},
      {[](ModelConfig& c) { c.rope.theta = 0; }, "rope.theta"},
      {[](ModelConfig& c) {
         c.rope_layers = {1, 1};
       },
       "rope_layers"},
      {[](ModelConfig& c) {
         c.rope_layers = {1, 1, 2};
       },
       "rope_layers"},
      {[](ModelConfig& c) { c.windows = {1}; }, "windows"},
      {[](ModelConfig& c) {
         c.windows = {1, -1, 0};
       },
       "windows"},
      {[](ModelConfig& c) { c.rope.scaling = RopeScaling::linear, c.rope.factor = 0; }, "factor"},
      {[](ModelConfig& c) { c.rope.scaling = RopeScaling::yarn; }, "original_context"},
      {[](ModelConfig& c) {
         c.positions = Positions::none;
         c.rope_layers = {1, 1, 1};
       },
       "rope_layers"},
  };
  for (const auto& [damage, part] : wrong) {
    ModelConfig config = sound;
    damage(config);
    expect_error([&] { check(config); }, ErrorKind::bad_file, {"model config", part});
  }
}

TEST(ModelConfig, DifferencesAreFoundOnlyWhereTheyMatter) {
  ModelConfig a = read("llama", llama_json());
  ModelConfig b = a;
  b.windows = {0, 0, 0};
  b.rope_layers = {1, 1, 1};
  b.rope.factor = 17;
  EXPECT_EQ(first_difference(a, b), "");
  b.windows = {0, 4, 0};
  EXPECT_EQ(first_difference(a, b), "windows is not set against [0,4,0]");
  b = a;
  b.kv_heads = 2;
  EXPECT_EQ(first_difference(a, b), "kv_heads is 4 against 2");
}

}  // namespace
}  // namespace plumb
