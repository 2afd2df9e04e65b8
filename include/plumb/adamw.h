// AdamW (arXiv:1711.05101), as torch.optim.AdamW computes it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace plumb {

struct AdamwOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
};

/// Parameters that decay at the same rate.
struct DecayGroup {
  std::vector<at::Tensor> parameters = {};  ///< changed in place; each has its own gradient
  double weight_decay = 0.0;                ///< a step multiplies them by 1 - rate * weight_decay
};

class Adamw {
 public:
  /// Throws bad_argument when an option is out of range or a parameter is no leaf of floating type.
  Adamw(std::vector<DecayGroup> groups, const AdamwOptions& options);

  /// One step by the parameters' gradients. Those without a gradient stay as they are.
  void step(double rate);
  std::int64_t steps() const { return steps_; }

  /// What makes a stopped optimiser go on as if it had not been: for each parameter, in the order
  /// of the groups, the running means of its gradient and of the gradient's square.
  struct Moments {
    at::Tensor first = {};
    at::Tensor second = {};
  };
  const std::vector<Moments>& moments() const { return moments_; }
  void restore(std::int64_t steps, const std::vector<Moments>& moments);

 private:
  std::vector<DecayGroup> groups_;
  AdamwOptions options_;
  std::vector<Moments> moments_ = {};
  std::int64_t steps_ = 0;
};

/// Scales all gradients so that their common L2 norm is at most `most`, as
/// torch.nn.utils.clip_grad_norm_ does, and returns the norm before.
double clip_gradients(const std::vector<at::Tensor>& parameters, double most);

/// The rate of step `step` (from 0) of `steps`: it rises linearly to `peak` over the first
/// `warm_up` steps, (step + 1) / warm_up of it, then falls along half a cosine to `final_share` of
/// it.
double cosine_rate(std::int64_t step, std::int64_t steps, double peak, std::int64_t warm_up,
                   double final_share);

}  // namespace plumb
