#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "plumb/error.h"
#include "plumb/train.h"

namespace plumb {

namespace {

constexpr std::array<const char*, 3> names = {"llama", "nope", "gpt2"};

}  // namespace

const char* to_string(ModelStyle style) noexcept { return names[static_cast<std::size_t>(style)]; }

ModelStyle parse_model_style(std::string_view text) {
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<ModelStyle>(found - names.begin());
  throw Error(ErrorKind::bad_argument,
              fmt::format("no style \"{:.40}\": llama, nope or gpt2", text));
}

ModelConfig model_config(ModelStyle style, const ModelSizes& sizes) {
  if (sizes.heads < 1 || sizes.d_model < 1 || sizes.d_model % sizes.heads != 0) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("the width {} does not part evenly into {} heads", sizes.d_model, sizes.heads));
  }
  ModelConfig config;
  config.layers = sizes.layers;
  config.heads = config.kv_heads = sizes.heads;
  config.d_model = sizes.d_model;
  config.d_head = sizes.d_model / sizes.heads;
  config.d_mlp = sizes.d_mlp;
  config.vocab = sizes.vocab;
  config.context = sizes.context;
  config.norm_eps = 1e-5;
  config.tied = style == ModelStyle::gpt2;
  if (style == ModelStyle::llama) {
    config.family = "llama";
    config.rope.theta = 10000.0;
    config.rope.dims = config.d_head;
    return config;
  }
  config.norm = Norm::layer;
  config.gated_mlp = false;
  config.mlp_bias = true;
  if (style == ModelStyle::nope) {
    config.family = "gpt_neox";
    config.positions = Positions::none;
    config.activation = Activation::relu;
  } else {
    config.family = "gpt2";
    config.positions = Positions::learned;
    config.activation = Activation::gelu_tanh;
    config.qkv_bias = config.out_bias = true;
  }
  return config;
}

}  // namespace plumb
