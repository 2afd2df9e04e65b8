// What Llama 4, Qwen3-Next and Falcon read from config.json, and what they refuse by name.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/config_fields.h"
#include "checkpoint/families.h"
#include "checkpoint/files.h"
#include "plumb/checkpoint_write.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using Layers = std::vector<std::uint8_t>;

Json llama4_json() {
  return {{"hidden_size", 64},        {"intermediate_size", 24},  {"intermediate_size_mlp", 96},
          {"num_hidden_layers", 8},   {"num_attention_heads", 8}, {"num_local_experts", 16},
          {"num_experts_per_tok", 1}, {"vocab_size", 100}};
}

Json next_json() {
  return {{"hidden_size", 64},
          {"intermediate_size", 96},
          {"moe_intermediate_size", 24},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_experts", 16},
          {"num_experts_per_tok", 4},
          {"vocab_size", 100},
          {"layer_types", std::vector<std::string>(4, "full_attention")}};
}

Json falcon_json() {
  return {{"hidden_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 8},
          {"vocab_size", 100}};
}

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
  test::expect_error([&] { read(family, json); }, kind, {"config.json", field});
}

TEST(Llama4Config, ReadsWhatItsModelsSay) {
  const ModelConfig config = read("llama4_text", llama4_json());
  EXPECT_EQ(config.d_head, 128);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.d_mlp, 96);
  EXPECT_EQ(config.rope_layers, (Layers{1, 1, 1, 0, 1, 1, 1, 0}));
  EXPECT_EQ(config.windows, (std::vector<int>{8192, 8192, 8192, 0, 8192, 8192, 8192, 0}));
  EXPECT_TRUE(config.chunked && config.qk_norm == QkNorm::rotated && !config.tied);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.rope.query_growth, 0.1);
  EXPECT_EQ(config.rope.query_span, 8192);
  const Experts& experts = config.experts;
  EXPECT_TRUE(experts.sigmoid && experts.weigh_input && !experts.normalise &&
              !experts.shared_gated);
  EXPECT_EQ(experts.width, 24);
  EXPECT_EQ(experts.shared_width, 24);
  EXPECT_TRUE(experts.layers.empty());
  EXPECT_TRUE(weight_shape(config, Weight::q_norm).empty());
  EXPECT_TRUE(weight_shape(config, Weight::shared_router).empty());
}

TEST(Llama4Config, ReadsItsSwitches) {
  Json json = llama4_json();
  json["interleave_moe_layer_step"] = 2;
  json["use_qk_norm"] = json["attn_temperature_tuning"] = false;
  json["no_rope_layers"] = std::vector<int>(8, 1);
  json["attention_chunk_size"] = nullptr;
  ModelConfig config = read("llama4_text", json);
  EXPECT_EQ(config.experts.layers, (Layers{0, 1, 0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(config.qk_norm, QkNorm::none);
  EXPECT_EQ(config.rope.query_growth, 0);
  EXPECT_TRUE(config.rope_layers.empty() && config.windows.empty() && !config.chunked);
  json["moe_layers"] = {0, 7};
  json["attention_chunk_size"] = 16;
  json["layer_types"] = {"chunked_attention", "full_attention", "full_attention", "full_attention",
                         "full_attention",    "full_attention", "full_attention", "full_attention"};
  config = read("llama4_text", json);
  EXPECT_EQ(config.experts.layers, (Layers{1, 0, 0, 0, 0, 0, 0, 1}));
  EXPECT_EQ(config.windows, (std::vector<int>{16, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(Llama4Config, RefusesWhatItCannotRead) {
  refuses("llama4_text", with(llama4_json(), "layer_types", std::vector<std::string>(8, "linear")),
          "layer_types");
  refuses("llama4_text", with(llama4_json(), "layer_types", {"full_attention"}), "layer_types",
          ErrorKind::bad_file);
  refuses("llama4_text", with(llama4_json(), "no_rope_layers", {1, 0}), "no_rope_layers",
          ErrorKind::bad_file);
  refuses("llama4_text", with(llama4_json(), "floor_scale", 0), "floor_scale", ErrorKind::bad_file);
  refuses("llama4_text", with(llama4_json(), "n_group", 2), "n_group");
  refuses("llama4", {{"model_type", "llama4"}}, "text_config", ErrorKind::bad_file);
}

TEST(Qwen3NextConfig, ReadsItsFields) {
  Json json = with(next_json(), "rope_parameters", {{"rope_theta", 1e7}});
  const ModelConfig config = read("qwen3_next", json);
  EXPECT_TRUE(config.gated_attention && config.qk_norm == QkNorm::head && !config.qkv_bias);
  EXPECT_EQ(config.d_head, 256);
  EXPECT_EQ(config.rope.dims, 64);
  EXPECT_EQ(config.rope.theta, 1e7);
  EXPECT_EQ(config.experts.shared_width, 512);
  EXPECT_TRUE(config.experts.normalise && config.experts.shared_gated);
  EXPECT_EQ(read("qwen3_next", with(json, "partial_rotary_factor", 0.5)).rope.dims, 128);
  json.erase("layer_types");
  EXPECT_EQ(read("qwen3_next", with(json, "full_attention_interval", 1)).layers, 4);
}

TEST(Qwen3NextConfig, RefusesLinearAttentionNamingTheField) {
  Json json = next_json();
  json["layer_types"][2] = "linear_attention";
  refuses("qwen3_next", json, "layer_types");
  test::expect_error([&] { read("qwen3_next", json); }, ErrorKind::unsupported,
                     {"no linear attention", "every layer is full_attention"});
  json.erase("layer_types");
  refuses("qwen3_next", json, "full_attention_interval");
  refuses("qwen3_next", with(next_json(), "layer_types", {"full_attention"}), "layer_types",
          ErrorKind::bad_file);
  refuses("qwen3_next", with(next_json(), "attention_bias", true), "attention_bias");
}

TEST(FalconConfig, ReadsEveryKindOfBlock) {
  ModelConfig config = read("falcon", falcon_json());
  EXPECT_TRUE(config.parallel && config.shared_norm && !config.qkv_bias && config.tied);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.d_mlp, 256);
  EXPECT_EQ(config.positions, Positions::rope);
  EXPECT_EQ(read("falcon", with(falcon_json(), "num_kv_heads", 8)).kv_heads, 1);
  config = read("falcon", with(falcon_json(), "multi_query", false));
  EXPECT_EQ(config.kv_heads, 8);
  Json json = with(with(falcon_json(), "new_decoder_architecture", true), "num_kv_heads", 2);
  config = read("falcon", json);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_TRUE(config.parallel && !config.shared_norm);
  EXPECT_TRUE(read("falcon", with(json, "num_ln_in_parallel_attn", 1)).shared_norm);
  json = with(with(falcon_json(), "alibi", true), "parallel_attn", false);
  config = read("falcon", json);
  EXPECT_EQ(config.positions, Positions::alibi);
  EXPECT_DOUBLE_EQ(config.alibi_scale, 1 / std::sqrt(8.0));
  EXPECT_FALSE(config.parallel || config.shared_norm);
}

TEST(FalconConfig, RefusesWhatTheReferenceDoesNotRunEither) {
  refuses("falcon", with(falcon_json(), "num_ln_in_parallel_attn", 2), "num_ln_in_parallel_attn");
  refuses("falcon",
          with(with(falcon_json(), "new_decoder_architecture", true), "parallel_attn", false),
          "parallel_attn");
  refuses("falcon", with(falcon_json(), "apply_residual_connection_post_layernorm", true),
          "apply_residual_connection_post_layernorm");
  refuses("falcon", with(falcon_json(), "num_attention_heads", 7), "num_attention_heads",
          ErrorKind::bad_file);
  refuses("falcon", with(falcon_json(), "num_experts", 4), "num_experts");
}

class LateFamilies : public testing::TestWithParam<std::string> {
 protected:
  const fs::path golden_ = test::source_dir() / "tests" / "golden" / GetParam();
};

TEST_P(LateFamilies, ReadBackWhatTheyWriteToTheBit) {
  const Checkpoint original = Checkpoint::open(golden_);
  const fs::path directory = test::scratch_dir() / "again";
  // A gain stored less 1 would be rounded in bfloat16 when the 1 is taken off again.
  convert_checkpoint(original, directory, {.dtype = at::kDouble});
  const Checkpoint again = Checkpoint::open(directory);
  EXPECT_EQ(first_difference(original.config(), again.config()), "");
  EXPECT_EQ(again.parameters(), original.parameters());
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? original.config().layers : 1); ++layer) {
      if (!original.has(weight, layer)) continue;
      EXPECT_TRUE(at::equal(again.read(weight, layer), original.read(weight, layer)))
          << weight_name(weight, layer);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, LateFamilies,
                         testing::Values("llama4_chunks", "llama4_mixed", "qwen3_next_half",
                                         "qwen3_next_mixed", "falcon_one_key_head",
                                         "falcon_two_norms", "falcon_one_norm", "falcon_alibi"),
                         [](const auto& info) { return info.param; });

/// The text model as it lies in a model that also sees images: names and config nested.
TEST(Llama4, IsReadOutOfTheModelThatSeesImages) {
  const fs::path golden = test::source_dir() / "tests" / "golden" / "llama4_chunks";
  const fs::path directory = test::scratch_dir() / "nested";
  fs::create_directories(directory);
  const Json text = Json::parse(test::read_bytes(golden / "config.json"));
  test::write_bytes(directory / "config.json",
                    Json{{"model_type", "llama4"}, {"text_config", text}}.dump());
  const std::string bytes = test::read_bytes(golden / "model.safetensors");
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  Json renamed = Json::object();
  const Json tensors = Json::parse(bytes.substr(sizeof size, size));
  for (const auto& [name, entry] : tensors.items()) {
    renamed[name == "__metadata__" ? name : "language_model." + name] = entry;
  }
  const std::string header = renamed.dump();
  test::write_bytes(directory / "model.safetensors",
                    test::bytes_of(static_cast<std::uint64_t>(header.size())) + header +
                        bytes.substr(sizeof size + size));
  const Tokens tokens = make_tokens({{1, 2, 3, 4, 5, 6, 7}});
  EXPECT_TRUE(at::equal(run(load(directory), tokens).logits, run(load(golden), tokens).logits));
}

}  // namespace
}  // namespace plumb
