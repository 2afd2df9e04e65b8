#include "model/mlp.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "model/mixture.h"

namespace plumb {

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::silu: return at::silu(x);
    case Activation::gelu: return at::gelu(x);
    case Activation::gelu_tanh: return at::gelu(x, "tanh");
    case Activation::relu: return at::relu(x);
  }
  return x;
}

at::Tensor activate(Activation activation, const at::Tensor& x, const BackRules& rules) {
  if (!rules.relevance) return activate(activation, x);
  const at::Tensor at = x.detach();
  switch (activation) {
    case Activation::silu: return x * at.sigmoid();
    case Activation::gelu: return x * (0.5 * (1.0 + (at * std::numbers::sqrt2 / 2.0).erf()));
    case Activation::gelu_tanh: {
      const double factor = std::sqrt(2.0 * std::numbers::inv_pi);
      return x * (0.5 * (1.0 + (factor * (at + 0.044715 * at.pow(3))).tanh()));
    }
    case Activation::relu: return x * (at > 0).to(x.scalar_type());
  }
  return x;
}

namespace {

at::Tensor read(Pass& pass, int layer, const at::Tensor& stream) {
  const ModelConfig& config = pass.config();
  const at::Tensor x = pass.tap()({Part::mlp_in, layer}, stream);
  if (config.norm_place == NormPlace::after) return x;
  const Site scale = {Part::ln2_scale, layer};
  return config.shared_norm ? pass.normalise(x, scale, Weight::ln1, Weight::ln1_bias, layer)
                            : pass.normalise(x, scale, Weight::ln2, Weight::ln2_bias, layer);
}

}  // namespace

at::Tensor mlp(Pass& pass, int layer, const at::Tensor& stream) {
  const ModelConfig& config = pass.config();
  Tap& tap = pass.tap();
  const at::Tensor in = read(pass, layer, stream);
  if (is_sparse(config, layer)) return mixture(pass, layer, in);
  at::Tensor post;
  if (config.gated_mlp) {
    const at::Tensor gate =
        tap({Part::mlp_pre, layer}, pass.project(in, Weight::gate, Weight::gate_bias, layer));
    const at::Tensor up =
        tap({Part::mlp_up, layer}, pass.project(in, Weight::up, Weight::up_bias, layer));
    post = activate(config.activation, gate, pass.rules());
    // In place where that is allowed: one tensor as wide as the MLP less.
    post = pass.in_place() ? post.mul_(up) : pass.rules().product(post, up);
  } else {
    post =
        activate(config.activation,
                 tap({Part::mlp_pre, layer}, pass.project(in, Weight::up, Weight::up_bias, layer)),
                 pass.rules());
  }
  const at::Tensor written =
      pass.project(tap({Part::mlp_post, layer}, post), Weight::down, Weight::down_bias, layer);
  const at::Tensor factor =
      pass.write_factor(written, {Part::ln2_post_scale, layer}, Weight::ln2_post, layer);
  return Pass::scaled(written, factor);
}

}  // namespace plumb
