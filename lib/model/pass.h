// What the pieces of a forward pass share: the run's inputs, norms and matrix products.
#pragma once

#include "core/precision.h"
#include "model/decoder.h"

namespace plumb {

class Pass {
 public:
  Pass(const DecoderInputs& inputs, Tap& tap)
      : inputs_(inputs), config_(inputs.model.config()), tap_(tap) {}

  const DecoderInputs& inputs() const { return inputs_; }
  const ModelConfig& config() const { return config_; }
  Tap& tap() { return tap_; }
  at::Tensor weight(Weight weight, int layer = 0) const {
    return inputs_.model.weight(weight, layer);
  }
  /// Whether tensors may be changed in place, as no gradient needs them.
  bool in_place() const { return !inputs_.plan.gradients; }
  const BackRules& rules() const { return inputs_.rules; }

  /// (x - mean) / deviation or x / rms, times the gain, plus the bias, where the model has them. Of
  /// a narrow x the scale and the result are computed in float32, and the result is rounded once.
  /// `record` is false where the same scale site was met before in this block.
  at::Tensor normalise(const at::Tensor& x, Site scale_site, Weight gain, Weight bias, int layer,
                       bool record = true);

  /// Of a norm on what attention or MLP write: its scale times its gain, which `written` is to be
  /// multiplied by. Undefined where the model has no such norm.
  at::Tensor write_factor(const at::Tensor& written, Site scale_site, Weight gain, int layer);

  /// `written` times such a factor, where there is one, in the type of `written`.
  static at::Tensor scaled(const at::Tensor& written, const at::Tensor& factor) {
    return factor.defined() ? (written * factor).to(written.scalar_type()) : written;
  }

  /// x / rms times the gain, if that is defined, over the last axis; no site.
  at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain) const;

  /// cap tanh(x / cap), in place where that is allowed; x itself where the cap is 0.
  at::Tensor soft_cap(at::Tensor x, double cap) const;

  at::Tensor project(const at::Tensor& x, Weight weight, Weight bias, int layer) const {
    return linear(x, this->weight(weight, layer), this->weight(bias, layer));
  }

  /// x W^T + b, into `out` if that is defined. A lone tile's product is cut into pieces that
  /// threads share; the pieces depend on the shape alone, so the bits do not depend on the threads.
  /// Sums of narrow numbers are taken in float32 and rounded once.
  at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const at::Tensor& out = {}) const;

  /// x W^T + b by the calling thread alone.
  static at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

  /// [n, a, b] times [n, b, c], neither of them narrow.
  at::Tensor batched_product(const at::Tensor& a, const at::Tensor& b) const;

 private:
  at::Tensor inverse_rms(const at::Tensor& x) const;

  const DecoderInputs& inputs_;
  const ModelConfig& config_;
  Tap& tap_;
};

}  // namespace plumb
