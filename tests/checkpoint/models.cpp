#include "checkpoint/models.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <random>

#include "checkpoint/files.h"
#include "plumb/checkpoint.h"
#include "plumb/checkpoint_write.h"
#include "support/paths.h"

namespace plumb::test {

ModelConfig small_config(const std::string& family) {
  ModelConfig config;
  config.family = family;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.d_model = 16;
  config.d_head = 4;
  config.d_mlp = 24;
  config.vocab = 11;
  config.context = 32;
  config.rope.dims = 4;
  if (family == "llama") {
    config.qkv_bias = config.out_bias = config.mlp_bias = true;
    config.tied = false;
  } else if (family == "smollm3") {
    config.rope_layers = {1, 0};
  } else if (family == "qwen2") {
    config.qkv_bias = true;
    config.windows = {0, 5};
  } else if (family == "qwen3") {
    config.qk_norm = QkNorm::head;
    config.d_head = config.rope.dims = 6;
  } else if (family == "qwen3_moe") {
    config.qk_norm = QkNorm::head;
    config.experts = {.count = 4, .per_token = 2, .width = 8, .normalise = true, .layers = {0, 1}};
  } else if (family == "qwen2_moe") {
    config.qkv_bias = true;
    config.windows = {5, 0};
    config.experts = {.count = 4, .per_token = 2, .width = 8, .shared_width = 12};
  } else if (family == "olmoe") {
    config.d_mlp = 8;
    config.kv_heads = 4;
    config.qk_norm = QkNorm::whole;
    config.qkv_clip = 2.5;
    config.experts = {.count = 4, .per_token = 2, .width = 8};
  } else if (family == "gpt_oss") {
    config.d_mlp = 8;
    config.qkv_bias = config.out_bias = config.sink_logits = true;
    config.windows = {5, 0};
    config.experts = {.count = 4, .per_token = 2, .width = 8, .normalise = true};
    config.experts.router_bias = config.experts.biases = true;
    config.experts.limit = 6.5;
    config.experts.alpha = 1.5;
  } else if (family == "mixtral") {
    config.d_mlp = 8;
    config.windows = {7, 7};
    config.experts = {.count = 4, .per_token = 2, .width = 8, .normalise = true};
  } else if (family == "mistral") {
    config.windows = {7, 7};
  } else if (family == "gpt2") {
    config.kv_heads = 4;
    config.norm = Norm::layer;
    config.positions = Positions::learned;
    config.activation = Activation::gelu_tanh;
    config.gated_mlp = false;
    config.qkv_bias = config.out_bias = config.mlp_bias = true;
  }
  return config;
}

std::map<std::string, at::Tensor> random_weights(const ModelConfig& config, std::uint64_t seed,
                                                 at::ScalarType dtype) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::map<std::string, at::Tensor> weights;
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? config.layers : 1); ++layer) {
      const auto shape = weight_shape(config, weight, layer);
      if (shape.empty()) continue;
      at::Tensor values = at::empty(shape, at::TensorOptions().dtype(at::kDouble));
      double* data = values.data_ptr<double>();
      for (std::int64_t i = 0; i < values.numel(); ++i) data[i] = normal(generator);
      weights[weight_name(weight, layer)] = values.to(dtype);
    }
  }
  return weights;
}

std::filesystem::path small_model(const std::string& family) {
  const ModelConfig config = small_config(family);
  const std::filesystem::path directory = scratch_dir() / family;
  write_checkpoint(directory, config, random_weights(config, 1));
  return directory;
}

void set_field(const std::filesystem::path& directory, const std::string& field,
               const std::string& value) {
  auto json = nlohmann::json::parse(read_bytes(directory / "config.json"));
  json[field] = nlohmann::json::parse(value);
  write_bytes(directory / "config.json", json.dump());
}

}  // namespace plumb::test
