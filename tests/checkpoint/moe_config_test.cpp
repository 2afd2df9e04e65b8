// Mixtures of experts: what config.json says of them, and where their weights lie.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/config_fields.h"
#include "checkpoint/families.h"
#include "checkpoint/files.h"
#include "checkpoint/models.h"
#include "plumb/checkpoint_write.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

using test::expect_error;
using test::random_weights;
using test::small_config;

Json moe_json() {
  return {{"hidden_size", 64},           {"intermediate_size", 96}, {"num_hidden_layers", 4},
          {"num_attention_heads", 8},    {"vocab_size", 100},       {"num_key_value_heads", 4},
          {"moe_intermediate_size", 24}, {"num_experts", 16},       {"num_experts_per_tok", 4}};
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

/// Makes a tensor's first number NaN.
void spoil(const std::filesystem::path& directory, const std::string& tensor) {
  std::string bytes = test::read_bytes(directory / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const Json json = Json::parse(bytes.substr(sizeof header, header));
  const auto first = json.at(tensor).at("data_offsets").at(0).get<std::uint64_t>();
  bytes.replace(sizeof header + header + first, 4,
                test::floats({std::numeric_limits<float>::quiet_NaN()}));
  test::write_bytes(directory / "model.safetensors", bytes);
}

TEST(Qwen3MoeConfig, ReadsItsExperts) {
  const ModelConfig config = read("qwen3_moe", moe_json());
  EXPECT_TRUE(config.qk_norm == QkNorm::head && !config.qkv_bias && !config.tied);
  EXPECT_EQ(config.d_head, 8);
  EXPECT_EQ(config.d_mlp, 96);
  EXPECT_EQ(config.experts.count, 16);
  EXPECT_EQ(config.experts.per_token, 4);
  EXPECT_EQ(config.experts.width, 24);
  EXPECT_FALSE(config.experts.normalise);
  EXPECT_TRUE(config.experts.layers.empty() && is_sparse(config, 0) && is_sparse(config, 3));
  EXPECT_TRUE(read("qwen3_moe", with(moe_json(), "norm_topk_prob", true)).experts.normalise);
  Json newer = with(moe_json(), "num_local_experts", 16);
  newer.erase("num_experts");
  EXPECT_EQ(first_difference(read("qwen3_moe", newer), config), "");
}

TEST(Qwen3MoeConfig, HasDenseLayersWhereItSaysSo) {
  const auto layers = [](const Json& json) { return read("qwen3_moe", json).experts.layers; };
  using Layers = std::vector<std::uint8_t>;
  EXPECT_EQ(layers(with(moe_json(), "decoder_sparse_step", 2)), (Layers{0, 1, 0, 1}));
  EXPECT_EQ(layers(with(moe_json(), "mlp_only_layers", {0, 2, 90})), (Layers{0, 1, 0, 1}));
  EXPECT_EQ(layers(with(with(moe_json(), "mlp_only_layers", {1}), "decoder_sparse_step", 2)),
            (Layers{0, 0, 0, 1}));
  EXPECT_EQ(layers(with(moe_json(), "mlp_only_layers", Json::array())), Layers());
  refuses("qwen3_moe", with(moe_json(), "decoder_sparse_step", 0), ErrorKind::bad_file,
          {"decoder_sparse_step"});
  refuses("qwen3_moe", with(moe_json(), "mlp_only_layers", {-1}), ErrorKind::bad_file,
          {"mlp_only_layers"});
}

TEST(Qwen3MoeConfig, HasOneWindowForAllLayers) {
  Json json = with(moe_json(), "sliding_window", 16);
  EXPECT_TRUE(read("qwen3_moe", json).windows.empty());
  json["use_sliding_window"] = true;
  EXPECT_EQ(read("qwen3_moe", json).windows, std::vector<int>(4, 16));
  json["sliding_window"] = nullptr;
  EXPECT_TRUE(read("qwen3_moe", json).windows.empty());
}

TEST(Qwen2MoeConfig, ReadsItsSharedExpertAndWindows) {
  Json json = with(moe_json(), "shared_expert_intermediate_size", 40);
  const ModelConfig config = read("qwen2_moe", json);
  EXPECT_EQ(config.experts.shared_width, 40);
  EXPECT_TRUE(config.qkv_bias && !config.out_bias && config.windows.empty());
  EXPECT_FALSE(read("qwen2_moe", with(json, "qkv_bias", false)).qkv_bias);
  json["use_sliding_window"] = true;
  json["sliding_window"] = 6;
  EXPECT_EQ(read("qwen2_moe", json).windows, (std::vector<int>{6, 0, 6, 0}));
  json["max_window_layers"] = 2;
  EXPECT_EQ(read("qwen2_moe", json).windows, (std::vector<int>{6, 0, 0, 0}));
  refuses("qwen2_moe", moe_json(), ErrorKind::bad_file, {"shared_expert_intermediate_size"});
}

TEST(MixtralConfig, ReadsItsExperts) {
  Json json = moe_json();
  json.erase("num_experts");
  json["num_local_experts"] = 8;
  const ModelConfig config = read("mixtral", json);
  EXPECT_EQ(config.experts.count, 8);
  EXPECT_EQ(config.experts.width, 96);
  EXPECT_TRUE(config.experts.normalise && config.windows.empty());
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(read("mixtral", with(json, "sliding_window", 7)).windows, std::vector<int>(4, 7));
}

TEST(OlmoeConfig, ReadsItsExpertsAndItsClamp) {
  const ModelConfig config = read("olmoe", with(moe_json(), "clip_qkv", 8.0));
  EXPECT_EQ(config.qk_norm, QkNorm::whole);
  EXPECT_EQ(config.qkv_clip, 8.0);
  EXPECT_EQ(config.experts.width, 96);
  EXPECT_FALSE(config.experts.normalise);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(read("olmoe", with(moe_json(), "clip_qkv", nullptr)).qkv_clip, 0.0);
  refuses("olmoe", with(moe_json(), "head_dim", 8), ErrorKind::unsupported, {"head_dim"});
}

TEST(GptOssConfig, ReadsItsExpertsWindowsAndRotation) {
  Json json = moe_json();
  json.erase("num_experts");
  json["num_local_experts"] = 16;
  ModelConfig config = read("gpt_oss", json);
  EXPECT_TRUE(config.sink_logits && config.qkv_bias && config.out_bias);
  EXPECT_EQ(config.d_head, 64);
  EXPECT_EQ(config.windows, (std::vector<int>{128, 0, 128, 0}));
  EXPECT_EQ(config.rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(config.rope.theta, 150000);
  EXPECT_EQ(config.rope.factor, 32);
  EXPECT_FALSE(config.rope.truncate);
  EXPECT_TRUE(config.experts.normalise && config.experts.router_bias && config.experts.biases);
  EXPECT_EQ(config.experts.limit, 7.0);
  EXPECT_EQ(config.experts.alpha, 1.702);
  json["swiglu_limit"] = 2.0;
  json["rope_scaling"] = {{"rope_type", "default"}};
  json["layer_types"] = std::vector<std::string>(4, "full_attention");
  config = read("gpt_oss", json);
  EXPECT_EQ(config.experts.limit, 2.0);
  EXPECT_EQ(config.rope.scaling, RopeScaling::none);
  EXPECT_TRUE(config.windows.empty());
  json["quantization_config"] = {{"quant_method", "mxfp4"}};
  EXPECT_EQ(read("gpt_oss", json).experts.limit, 2.0);
  json["quantization_config"] = {{"quant_method", "bitsandbytes"}};
  refuses("gpt_oss", json, ErrorKind::unsupported, {"quant_method", "bitsandbytes", "mxfp4"});
  json["quantization_config"] = {{"bits", 4}};
  refuses("gpt_oss", json, ErrorKind::bad_file, {"quant_method"});
}

TEST(MixtureConfig, RefusesMissingAndImpossibleFields) {
  for (const char* family : {"qwen3_moe", "mixtral"}) {
    for (const char* field : {"num_experts", "num_experts_per_tok"}) {
      Json json = moe_json();
      json.erase(field);
      refuses(family, json, ErrorKind::bad_file, {"config.json", field, "missing"});
      for (const Json& wrong : {Json(0), Json(-1), Json(1.5), Json("8"), Json(1 << 20)}) {
        refuses(family, with(moe_json(), field, wrong), ErrorKind::bad_file, {field});
      }
    }
    refuses(family, with(moe_json(), "num_experts_per_tok", 17), ErrorKind::bad_file,
            {"num_experts_per_tok", "16"});
    for (const char* field : {"n_routed_experts", "n_shared_experts", "scoring_func"}) {
      refuses(family, with(moe_json(), field, 2), ErrorKind::unsupported, {"config.json", field});
    }
  }
  refuses("qwen3_moe", with(moe_json(), "layer_types", {"full_attention"}), ErrorKind::unsupported,
          {"layer_types"});
  refuses("qwen3", moe_json(), ErrorKind::unsupported, {"num_experts"});
}

TEST(MixtureConfig, ContradictionsAreCaught) {
  const auto contradicts = [](Experts experts, const std::string& part) {
    ModelConfig config = small_config("qwen3_moe");
    config.experts = std::move(experts);
    expect_error([&] { check(config); }, ErrorKind::bad_file, {part});
  };
  contradicts({.count = 4, .per_token = 5, .width = 8}, "experts.per_token");
  contradicts({.count = 4, .per_token = 0, .width = 8}, "experts.per_token");
  contradicts({.count = 4, .per_token = 1, .width = 0}, "experts.width");
  contradicts({.count = -1, .per_token = 1, .width = 4}, "experts.count");
  contradicts({.count = 4, .per_token = 1, .width = 4, .layers = {1}}, "experts.layers");
}

TEST(MixtureWeights, AreReadExpertByExpert) {
  const ModelConfig config = small_config("qwen3_moe");
  const auto weights = random_weights(config, 3);
  const std::filesystem::path directory = test::scratch_dir() / "moe";
  write_checkpoint(directory, config, weights);
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const at::Tensor& whole = weights.at("L1.expert_down");
  const Model model(checkpoint, {.dtype = at::kDouble});
  for (int expert = 0; expert < config.experts.count; ++expert) {
    EXPECT_TRUE(at::equal(checkpoint.read_expert(Weight::expert_down, 1, expert), whole[expert]));
    EXPECT_TRUE(at::equal(model.expert_weight(Weight::expert_down, 1, expert),
                          whole[expert].to(at::kDouble)));
  }
  EXPECT_FALSE(model.expert_weight(Weight::expert_down_bias, 1, 0).defined());
  EXPECT_FALSE(model.expert_weight(Weight::expert_down, 0, 0).defined());  // a dense layer
  for (const auto& wrong : {std::tuple(Weight::expert_down, 1, 4), std::tuple(Weight::router, 1, 0),
                            std::tuple(Weight::expert_down, 0, 0)}) {
    const auto [weight, layer, expert] = wrong;
    expect_error([&, w = weight, l = layer, e = expert] { checkpoint.read_expert(w, l, e); },
                 ErrorKind::bad_argument, {weight_name(weight, layer)});
  }
}

TEST(MixtureWeights, OnlyThoseOfVisitedExpertsAreRead) {
  const ModelConfig config = small_config("mixtral");
  const auto weights = random_weights(config, 3);
  const std::filesystem::path directory = test::scratch_dir() / "mixtral";
  write_checkpoint(directory, config, weights);
  const Model model = load(directory, {.dtype = at::kDouble});
  const Tokens tokens = make_tokens({{1, 2, 3}});
  Plan plan;  // every token visits experts 0 and 2
  for (int layer = 0; layer < config.layers; ++layer) {
    plan.interventions.push_back(
        {{Part::router, layer}, {}, Put{at::tensor({0.5, 0.0, 0.5, 0.0}, at::kDouble)}});
  }
  const at::Tensor clean = run(model, tokens, plan).logits;
  spoil(directory, "model.layers.1.block_sparse_moe.experts.1.w2.weight");
  const Model other = load(directory, {.dtype = at::kDouble});
  EXPECT_TRUE(at::equal(run(other, tokens, plan).logits, clean));
  expect_error([&] { other.expert_weight(Weight::expert_down, 1, 1); }, ErrorKind::bad_file,
               {"experts.1.w2", "expert 1 of L1.expert_down"});
}

TEST(MixtureWeights, AMissingOrMisshapenExpertIsNamed) {
  const std::filesystem::path directory = test::small_model("qwen3_moe");
  test::set_field(directory, "num_experts", "5");
  expect_error([&] { Checkpoint::open(directory); }, ErrorKind::bad_file,
               {"model.layers.1.mlp", "gate.weight", "[4, 16]", "[5, 16]"});
  test::set_field(directory, "num_experts", "4");
  test::set_field(directory, "moe_intermediate_size", "7");
  expect_error([&] { Checkpoint::open(directory); }, ErrorKind::bad_file,
               {"model.layers.1.mlp.experts.0", "shape"});
  test::set_field(directory, "moe_intermediate_size", "8");
  test::set_field(directory, "mlp_only_layers", "[]");
  expect_error([&] { Checkpoint::open(directory); }, ErrorKind::bad_file, {"missing"});
}

}  // namespace
}  // namespace plumb
