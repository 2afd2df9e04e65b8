#include "plumb/adamw.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "plumb/error.h"

namespace plumb {

namespace {

// torch.nn.utils.clip_grad_norm_ adds this to the norm it divides by.
constexpr double clip_guard = 1e-6;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "AdamW: " + message);
}

void check(const AdamwOptions& options) {
  for (const double beta : {options.beta1, options.beta2}) {
    if (!(beta >= 0.0 && beta < 1.0))
      refuse(fmt::format("a beta must be 0 to below 1, not {}", beta));
  }
  if (!(options.epsilon > 0.0 && std::isfinite(options.epsilon)))
    refuse(fmt::format("epsilon must be positive, not {}", options.epsilon));
}

}  // namespace

Adamw::Adamw(std::vector<DecayGroup> groups, const AdamwOptions& options)
    : groups_(std::move(groups)), options_(options) {
  check(options);
  for (const DecayGroup& group : groups_) {
    if (!(group.weight_decay >= 0.0 && std::isfinite(group.weight_decay)))
      refuse(fmt::format("weight decay must not be negative, but is {}", group.weight_decay));
    for (const at::Tensor& parameter : group.parameters) {
      if (!parameter.defined() || !parameter.is_leaf() || !parameter.is_floating_point())
        refuse("a parameter is no leaf tensor of floating type");
      const at::Tensor plain = parameter.detach();
      moments_.push_back({at::zeros_like(plain), at::zeros_like(plain)});
    }
  }
}

void Adamw::step(double rate) {
  const c10::AutoGradMode off(false);
  ++steps_;
  const auto count = static_cast<double>(steps_);
  const double correction1 = 1.0 - std::pow(options_.beta1, count);
  const double correction2 = std::sqrt(1.0 - std::pow(options_.beta2, count));
  std::size_t index = 0;
  for (const DecayGroup& group : groups_) {
    for (const at::Tensor& parameter : group.parameters) {
      Moments& moments = moments_[index++];
      const at::Tensor& gradient = parameter.grad();
      if (!gradient.defined()) continue;
      // A leaf may not be changed in place; what it shares its memory with may.
      at::Tensor values = parameter.detach();
      values.mul_(1.0 - rate * group.weight_decay);
      moments.first.mul_(options_.beta1).add_(gradient, 1.0 - options_.beta1);
      moments.second.mul_(options_.beta2).addcmul_(gradient, gradient, 1.0 - options_.beta2);
      const at::Tensor scale = (moments.second.sqrt() / correction2).add_(options_.epsilon);
      values.addcdiv_(moments.first, scale, -rate / correction1);
    }
  }
}

void Adamw::restore(std::int64_t steps, const std::vector<Moments>& moments) {
  if (steps < 0 || moments.size() != moments_.size())
    refuse(fmt::format("expected the moments of {} parameters, got {}", moments_.size(),
                       moments.size()));
  for (std::size_t i = 0; i < moments.size(); ++i) {
    for (const auto& [own, given] : {std::pair(&moments_[i].first, &moments[i].first),
                                     std::pair(&moments_[i].second, &moments[i].second)}) {
      if (!given->defined() || given->sizes() != own->sizes())
        refuse("moments of another shape than the parameter's");
      own->copy_(*given);
    }
  }
  steps_ = steps;
}

double clip_gradients(const std::vector<at::Tensor>& parameters, double most) {
  const c10::AutoGradMode off(false);
  double sum = 0.0;
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    const double norm = parameter.grad().norm().item<double>();
    sum += norm * norm;
  }
  const double norm = std::sqrt(sum);
  const double factor = std::min(1.0, most / (norm + clip_guard));
  if (factor < 1.0) {
    for (const at::Tensor& parameter : parameters) {
      if (parameter.grad().defined()) parameter.grad().mul_(factor);
    }
  }
  return norm;
}

double cosine_rate(std::int64_t step, std::int64_t steps, double peak, std::int64_t warm_up,
                   double final_share) {
  if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const auto length = static_cast<double>(std::max<std::int64_t>(1, steps - warm_up));
  const double done = std::min(1.0, static_cast<double>(step - warm_up) / length);
  const double wave = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return peak * (final_share + (1.0 - final_share) * wave);
}

}  // namespace plumb
