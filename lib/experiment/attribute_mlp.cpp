#include "experiment/attribute_mlp.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "core/precision.h"
#include "model/mlp.h"

namespace plumb {
namespace {

// What `gradient` at act(x) is at x.
at::Tensor through_activation(Activation activation, const at::Tensor& gradient,
                              const at::Tensor& x) {
  switch (activation) {
    case Activation::silu: return at::silu_backward(gradient, x);
    case Activation::gelu: return at::gelu_backward(gradient, x, "none");
    case Activation::gelu_tanh: return at::gelu_backward(gradient, x, "tanh");
    case Activation::relu: return at::threshold_backward(gradient, x, 0);
  }
  return gradient;
}

// Of n positions, the gradient at what the MLP's matrices read, [n, d_model]. As wide as the MLP,
// four tensors live at once, and three of an MLP without gate.
at::Tensor through_matrices(const Pass& pass, int layer, const at::Tensor& in,
                            const at::Tensor& written) {
  const c10::AutoGradMode no_gradients(false);
  const ModelConfig& config = pass.config();
  const auto weight = [&](Weight which) { return widened(pass.weight(which, layer)); };
  if (!config.gated_mlp) {
    const at::Tensor pre = widened(pass.project(in, Weight::up, Weight::up_bias, layer));
    return through_activation(config.activation, written.matmul(weight(Weight::down)), pre)
        .matmul(weight(Weight::up));
  }
  const at::Tensor pre = widened(pass.project(in, Weight::gate, Weight::gate_bias, layer));
  at::Tensor at_pre = written.matmul(weight(Weight::down));  // at the product, to begin with
  at::Tensor at_up = activate(config.activation, pre).mul_(at_pre);
  at_pre.mul_(widened(pass.project(in, Weight::up, Weight::up_bias, layer)));
  at_pre = through_activation(config.activation, at_pre, pre);
  return at_pre.matmul(weight(Weight::gate)).addmm_(at_up, weight(Weight::up));
}

}  // namespace

bool knows_mlp_gradient(const ModelConfig& config, int layer) {
  return config.norm_place == NormPlace::before && !is_sparse(config, layer);
}

at::Tensor mlp_gradient(Pass& pass, int layer, const at::Tensor& stream,
                        const at::Tensor& written) {
  const ModelConfig& config = pass.config();
  const std::int64_t d = config.d_model;
  const Weight gain = config.shared_norm ? Weight::ln1 : Weight::ln2;
  const Weight shift = config.shared_norm ? Weight::ln1_bias : Weight::ln2_bias;
  const at::Tensor rows = stream.detach().reshape({-1, d});
  const at::Tensor given = widened(written.detach()).reshape({-1, d});
  at::Tensor found = at::empty_like(given);
  for (std::int64_t first = 0; first < rows.size(0); first += mlp_rows_at_once) {
    const std::int64_t count = std::min(mlp_rows_at_once, rows.size(0) - first);
    const c10::AutoGradMode gradients(true);
    at::Tensor own = rows.narrow(0, first, count).unsqueeze(0).detach();
    own.set_requires_grad(true);
    const at::Tensor in =
        pass.normalise(own, {Part::ln2_scale, layer}, gain, shift, layer).squeeze(0);
    const at::Tensor at_in =
        through_matrices(pass, layer, in.detach(), given.narrow(0, first, count));
    const at::Tensor back =
        torch::autograd::grad({in}, {own}, {at_in.to(in.scalar_type())}).front();
    found.narrow(0, first, count).copy_(back.squeeze(0));
  }
  return found.view(stream.sizes());
}

}  // namespace plumb
