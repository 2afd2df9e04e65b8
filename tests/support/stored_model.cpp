#include "support/stored_model.h"

#include <ATen/ATen.h>

#include <map>
#include <string>

#include "plumb/checkpoint_write.h"
#include "support/paths.h"

namespace plumb::test {

ModelConfig stored_config(bool sparse) {
  ModelConfig config;
  config.family = sparse ? "qwen3_moe" : "llama";
  config.layers = 12;
  config.heads = 4;
  config.kv_heads = 2;
  config.d_model = 256;
  config.d_head = 64;
  config.d_mlp = 1024;
  config.vocab = 512;
  config.context = 64;
  config.rope.dims = 64;
  config.tied = false;
  if (sparse) {
    config.qk_norm = QkNorm::head;
    config.norm_eps = 1e-6;
    config.experts = {.count = 4, .per_token = 2, .width = 256, .normalise = true};
  }
  return config;
}

std::filesystem::path write_stored(bool sparse) {
  const ModelConfig config = stored_config(sparse);
  const std::filesystem::path directory = scratch_dir();
  std::map<std::string, at::Tensor> weights;
  at::manual_seed(1);
  for (const Weight weight : all_weights()) {
    for (int layer = 0; layer < (is_per_layer(weight) ? config.layers : 1); ++layer) {
      const auto shape = weight_shape(config, weight, layer);
      if (!shape.empty()) weights[weight_name(weight, layer)] = at::randn(shape) * 0.06;
    }
  }
  write_checkpoint(directory, config, weights);
  return directory;
}

}  // namespace plumb::test
