// What each family reads from config.json beyond Llama and GPT-2, and what it refuses by name.
#include "checkpoint/families.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/config_fields.h"
#include "checkpoint/files.h"
#include "plumb/checkpoint_write.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::expect_error;

Json llama_like() {
  return {{"hidden_size", 64},        {"intermediate_size", 96},       {"num_hidden_layers", 6},
          {"num_attention_heads", 8}, {"num_key_value_heads", 4},      {"vocab_size", 100},
          {"rms_norm_eps", 1e-5},     {"max_position_embeddings", 512}};
}

Json neox_json() {
  return {{"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"vocab_size", 100}};
}

Json neo_json() {
  return {{"hidden_size", 64},
          {"num_layers", 4},
          {"num_heads", 4},
          {"vocab_size", 100},
          {"max_position_embeddings", 32},
          {"attention_types", Json::parse(R"([[["global", "local"], 2]])")}};
}

Json opt_json() {
  return {{"hidden_size", 64},        {"ffn_dim", 96},     {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"vocab_size", 100}, {"max_position_embeddings", 32}};
}

Json mpt_json() { return {{"d_model", 64}, {"n_layers", 2}, {"n_heads", 4}, {"vocab_size", 100}}; }

ModelConfig read(const std::string& family, const Json& json) {
  ModelConfig config = find_family(family)->read(Fields(json, "config.json"));
  config.family = family;
  check(config);
  return config;
}

Json with(Json json, const std::string& field, Json value) {
  json[field] = std::move(value);
  return json;
}

void refuses(const std::string& family, const Json& json, const std::string& field,
             ErrorKind kind = ErrorKind::unsupported) {
  expect_error([&] { read(family, json); }, kind, {"config.json", field});
}

TEST(GemmaConfig, ReadsItsFields) {
  const ModelConfig config = read("gemma", with(llama_like(), "hidden_act", "gelu"));
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
  EXPECT_EQ(config.d_head, 256);
  EXPECT_EQ(config.embed_scale, 8.0);
  EXPECT_EQ(config.norm_place, NormPlace::before);
  EXPECT_TRUE(config.tied && config.windows.empty());
}

TEST(GemmaConfig, Reads2) {
  Json json = with(llama_like(), "head_dim", 32);
  ModelConfig config = read("gemma2", json);
  EXPECT_EQ(config.norm_place, NormPlace::both);
  EXPECT_EQ(config.attention_scale, 1.0 / 16);
  EXPECT_EQ(config.score_cap, 50);
  EXPECT_EQ(config.logit_cap, 30);
  EXPECT_EQ(config.windows, (std::vector<int>{4096, 0, 4096, 0, 4096, 0}));
  json["query_pre_attn_scalar"] = 32;
  json["attn_logit_softcapping"] = json["final_logit_softcapping"] = nullptr;
  config = read("gemma2", json);
  EXPECT_EQ(config.attention_scale, 0);
  EXPECT_EQ(config.score_cap, 0);
  EXPECT_EQ(config.logit_cap, 0);
}

TEST(GemmaConfig, Reads3InBothForms) {
  Json old = llama_like();
  old["sliding_window"] = 16;
  old["sliding_window_pattern"] = 3;
  old["rope_theta"] = 5000;
  old["rope_local_base_freq"] = 100;
  old["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  Json fresh = llama_like();
  fresh["sliding_window"] = 16;
  for (int layer = 0; layer < 6; ++layer) {
    fresh["layer_types"].push_back(layer % 3 == 2 ? "full_attention" : "sliding_attention");
  }
  fresh["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 5000}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 100}}}};
  for (const Json& json : {old, fresh}) {
    const ModelConfig config = read("gemma3_text", json);
    EXPECT_EQ(config.windows, (std::vector<int>{16, 16, 0, 16, 16, 0}));
    EXPECT_EQ(config.qk_norm, QkNorm::head);
    EXPECT_EQ(config.rope.theta, 5000);
    EXPECT_EQ(config.rope.scaling, RopeScaling::linear);
    EXPECT_EQ(config.window_rope.theta, 100);
    EXPECT_EQ(config.window_rope.scaling, RopeScaling::none);
  }
}

TEST(GemmaConfig, RefusesWhatTheDecoderDoesNotDo) {
  refuses("gemma3_text", with(llama_like(), "attn_logit_softcapping", 50.0),
          "attn_logit_softcapping");
  for (const char* family : {"gemma", "gemma2", "gemma3_text"}) {
    refuses(family, with(llama_like(), "use_bidirectional_attention", true),
            "use_bidirectional_attention");
    refuses(family, with(llama_like(), "num_experts", 4), "num_experts");
  }
  refuses("gemma2", with(llama_like(), "final_logit_softcapping", 0.0), "final_logit_softcapping",
          ErrorKind::bad_file);
  refuses("gemma", with(llama_like(), "final_logit_softcapping", 30.0), "final_logit_softcapping");
  refuses("gemma3_text",
          with(llama_like(), "rope_parameters", {{"chunked_attention", {{"rope_theta", 1.0}}}}),
          "chunked_attention");
}

TEST(NeoxConfig, ReadsItsFields) {
  ModelConfig config = read("gpt_neox", neox_json());
  EXPECT_TRUE(config.parallel && config.qkv_bias && config.out_bias && config.mlp_bias);
  EXPECT_FALSE(config.tied || config.gated_mlp || config.shared_norm);
  EXPECT_EQ(config.rope.dims, 4);
  EXPECT_EQ(config.rope.theta, 10000);
  Json json = with(with(neox_json(), "rotary_pct", 0.5), "rotary_emb_base", 500);
  json["use_parallel_residual"] = false;
  config = read("gpt_neox", json);
  EXPECT_FALSE(config.parallel);
  EXPECT_EQ(config.rope.dims, 8);
  EXPECT_EQ(config.rope.theta, 500);
}

TEST(NeoxConfig, RefusesWhatItCannotRead) {
  refuses("gpt_neox", with(neox_json(), "hidden_act", "gelu_fast"), "hidden_act");
  refuses("gpt_neox", with(neox_json(), "num_attention_heads", 5), "num_attention_heads",
          ErrorKind::bad_file);
  refuses("gpt_neox", with(neox_json(), "rotary_pct", 1.5), "rotary_pct", ErrorKind::bad_file);
  refuses("gpt_neox", with(neox_json(), "rope_scaling", {{"type", "other"}, {"factor", 2.0}}),
          "rope_scaling");
}

TEST(NeoConfig, ReadsItsFields) {
  const ModelConfig config = read("gpt_neo", neo_json());
  EXPECT_EQ(config.windows, (std::vector<int>{0, 256, 0, 256}));
  EXPECT_EQ(config.attention_scale, 1);
  EXPECT_EQ(config.d_mlp, 256);
  EXPECT_TRUE(!config.qkv_bias && config.out_bias && config.mlp_bias);
}

TEST(NeoConfig, RefusesTypesThatDoNotFit) {
  for (const char* wrong :
       {R"([[["global"], 3]])", R"([[["global"], 1000000000]])", R"([[[], 1000000000]])",
        R"("local")", R"([["global", 4]])", R"([[["global"], 4, 5]])", R"([[["global"], -4]])"}) {
    refuses("gpt_neo", with(neo_json(), "attention_types", Json::parse(wrong)), "attention_types",
            ErrorKind::bad_file);
  }
  refuses("gpt_neo", with(neo_json(), "attention_types", Json::parse(R"([[["dense"], 4]])")),
          "attention_types");
}

TEST(OptConfig, ReadsItsFields) {
  const ModelConfig config = read("opt", opt_json());
  EXPECT_EQ(config.positions, Positions::learned);
  EXPECT_EQ(config.activation, Activation::relu);
  EXPECT_TRUE(config.tied && config.qkv_bias && config.norm_gain);
  const Source table = find_family("opt")->source(config, Weight::pos_embed, 0);
  EXPECT_EQ(table.first, 2);
  EXPECT_EQ(table.outputs, 34);
}

TEST(OptConfig, RefusesProjectedEmbeddingsAndLateNorms) {
  refuses("opt", with(opt_json(), "word_embed_proj_dim", 32), "word_embed_proj_dim");
  refuses("opt", with(opt_json(), "do_layer_norm_before", false), "do_layer_norm_before");
  refuses("opt", with(opt_json(), "_remove_final_layer_norm", true), "_remove_final_layer_norm");
}

TEST(Phi3Config, ReadsPartialRotationAndLongrope) {
  Json json = with(llama_like(), "hidden_size", 128);
  json["partial_rotary_factor"] = 0.5;
  json["sliding_window"] = 7;
  ModelConfig config = read("phi3", json);
  EXPECT_EQ(config.rope.dims, 8);
  EXPECT_EQ(config.windows, std::vector<int>(6, 7));
  json["original_max_position_embeddings"] = 128;
  json["rope_scaling"] = {{"type", "su"},
                          {"short_factor", {1.0, 1.0, 1.0, 2.0}},
                          {"long_factor", {1.0, 2.0, 3.0, 4.0}}};
  config = read("phi3", json);
  EXPECT_EQ(config.rope.scaling, RopeScaling::longrope);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(128.0)));
  EXPECT_EQ(config.rope.long_factors, (std::vector<double>{1, 2, 3, 4}));
}

TEST(Phi3Config, RefusesOtherScalingsAndFactorsThatDoNotFit) {
  refuses("phi3", with(llama_like(), "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
          "rope_scaling");
  Json json = with(llama_like(), "original_max_position_embeddings", 128);
  json["rope_scaling"] = {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}};
  refuses("phi3", json, "short_factor", ErrorKind::bad_file);
  json["rope_scaling"] = {{"type", "longrope"},
                          {"short_factor", {1.0, 1.0, 1.0, 1.0}},
                          {"long_factor", {1.0, 1.0, 0.0, 1.0}}};
  refuses("phi3", json, "long_factor", ErrorKind::bad_file);
  json["rope_scaling"]["long_factor"] = {1.0, 1.0, 1.0, 1.0};
  EXPECT_EQ(read("phi3", json).rope.scaling, RopeScaling::longrope);
  json.erase("original_max_position_embeddings");
  refuses("phi3", json, "original_max_position_embeddings", ErrorKind::bad_file);
}

TEST(OlmoConfig, ReadsEveryGeneration) {
  ModelConfig config = read("olmo", with(llama_like(), "clip_qkv", 8.0));
  EXPECT_EQ(config.norm, Norm::layer);
  EXPECT_FALSE(config.norm_gain || config.norm_bias);
  EXPECT_EQ(config.qkv_clip, 8);
  EXPECT_TRUE(weight_shape(config, Weight::ln1).empty());
  EXPECT_TRUE(weight_shape(config, Weight::final_norm_bias).empty());
  config = read("olmo2", llama_like());
  EXPECT_EQ(config.norm_place, NormPlace::after);
  EXPECT_EQ(config.qk_norm, QkNorm::whole);
  EXPECT_EQ(weight_shape(config, Weight::k_norm), (std::vector<std::int64_t>{32}));
  EXPECT_TRUE(weight_shape(config, Weight::ln1).empty());
  EXPECT_EQ(weight_shape(config, Weight::ln2_post), (std::vector<std::int64_t>{64}));
  config = read("olmo3", llama_like());
  EXPECT_EQ(config.windows, (std::vector<int>{4096, 4096, 4096, 0, 4096, 4096}));
  EXPECT_EQ(config.window_rope.theta, 500000);
}

TEST(OlmoConfig, RefusesWhatTheReferenceReadsInTwoWays) {
  refuses("olmo2", with(llama_like(), "clip_qkv", 8.0), "clip_qkv");
  refuses("olmo3", with(llama_like(), "rope_theta", 10000.0), "rope_theta");
}

TEST(MptConfig, ReadsItsFields) {
  ModelConfig config = read("mpt", mpt_json());
  EXPECT_EQ(config.positions, Positions::alibi);
  EXPECT_EQ(config.alibi_bias, 8);
  EXPECT_EQ(config.d_mlp, 256);
  EXPECT_TRUE(weight_shape(config, Weight::ln1_bias).empty());
  config = read("mpt", with(mpt_json(), "attn_config",
                            {{"alibi_bias_max", 16}, {"clip_qkv", 6.0}, {"softmax_scale", 0.25}}));
  EXPECT_EQ(config.alibi_bias, 16);
  EXPECT_EQ(config.qkv_clip, 6);
  EXPECT_EQ(config.attention_scale, 0.25);
}

TEST(MptConfig, RefusesOtherAttention) {
  const std::vector<std::pair<std::string, Json>> wrong = {{"alibi", false},
                                                           {"prefix_lm", true},
                                                           {"qk_ln", true},
                                                           {"attn_type", "multiquery_attention"}};
  for (const auto& [field, value] : wrong) {
    refuses("mpt", with(mpt_json(), "attn_config", {{field, value}}), field);
  }
  refuses("mpt", with(mpt_json(), "expansion_ratio", 2), "expansion_ratio");
  refuses("mpt", with(mpt_json(), "no_bias", false), "no_bias");
  refuses("mpt", with(mpt_json(), "logit_scale", 0.5), "logit_scale");
}

TEST(NewFamilies, SayInConfigJsonWhatTheyRead) {
  const std::vector<std::pair<std::string, Json>> all = {
      {"gemma", llama_like()},   {"gemma2", llama_like()}, {"gemma3_text", llama_like()},
      {"gpt_neox", neox_json()}, {"gpt_neo", neo_json()},  {"opt", opt_json()},
      {"phi3", llama_like()},    {"olmo", llama_like()},   {"olmo2", llama_like()},
      {"olmo3", llama_like()},   {"mpt", mpt_json()}};
  for (const auto& [family, json] : all) {
    const ModelConfig config = read(family, json);
    const Json written = find_family(family)->write(config);
    EXPECT_EQ(written.at("model_type"), family);
    EXPECT_EQ(first_difference(config, read(family, written)), "") << family;
  }
}

class Rewritten : public testing::TestWithParam<std::string> {};

TEST_P(Rewritten, HasTheSameWeightsToTheBit) {
  const Checkpoint original =
      Checkpoint::open(test::source_dir() / "tests" / "golden" / GetParam());
  std::map<std::string, at::Tensor> weights;
  const auto each = [&](const auto& visit) {
    for (const Weight weight : all_weights()) {
      for (int layer = 0; layer < (is_per_layer(weight) ? original.config().layers : 1); ++layer) {
        if (original.has(weight, layer)) visit(weight, layer);
      }
    }
  };
  each([&](Weight weight, int layer) {
    weights[weight_name(weight, layer)] = original.read(weight, layer);
  });
  const auto directory = test::scratch_dir() / GetParam();
  write_checkpoint(directory, original.config(), weights);
  const Checkpoint again = Checkpoint::open(directory);
  EXPECT_EQ(first_difference(original.config(), again.config()), "");
  EXPECT_EQ(again.parameters(), original.parameters());
  each([&](Weight weight, int layer) {
    EXPECT_TRUE(at::equal(again.read(weight, layer), weights.at(weight_name(weight, layer))))
        << weight_name(weight, layer);
  });
}

INSTANTIATE_TEST_SUITE_P(Golden, Rewritten,
                         testing::Values("gemma_gelu_untied", "gemma2_caps", "gemma3_old_form",
                                         "gpt_neox_parallel", "gpt_neox_sequential",
                                         "gpt_neo_padded", "opt_relu", "opt_plain_norms",
                                         "phi3_longrope_long", "phi3_partial", "olmo_clipped",
                                         "olmo2_gqa", "olmo3_yarn", "mpt_six_heads"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plumb
