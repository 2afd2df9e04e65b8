#include "model/arithmetic.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <exception>
#include <string>

#include "plumb/error.h"

namespace plumb {
namespace {

/// Whether the operations that the decoder uses on tensors of the type exist; LibTorch says so by
/// throwing.
bool computes(at::ScalarType type, at::Device device) {
  try {
    const at::Tensor x = at::ones({2, 2}, at::TensorOptions().dtype(type).device(device));
    const at::Tensor index = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(device));
    at::Tensor y = at::cat({x + x, x * 2.0, at::silu(x), at::relu(x), at::sigmoid(x)}, 0);
    y = y * at::gelu(y) - at::gelu(y, "tanh") / 2.0;
    y = y.index_select(0, index).clamp(-1.0, 1.0) + y.sum(0, true);
    y.index_copy_(0, index, at::embedding(x, index));
    y.mul_(y);
    y.zero_();
    if (!device.is_cpu()) y = at::linear(y, x, {});
    return at::isfinite(y.to(at::kDouble)).all().item<bool>();
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

void check_arithmetic(at::ScalarType type, at::Device device) {
  if (type == at::kFloat || type == at::kDouble) return;
  if (type != at::kBFloat16 && type != at::kHalf) {
    throw Error(ErrorKind::unsupported,
                fmt::format("the decoder computes in float32, float64, bfloat16 and float16, not "
                            "{}; choose --dtype f32, f64, bf16 or f16",
                            at::toString(type)));
  }
  if (computes(type, device)) return;
  const bool half = type == at::kHalf;
  throw Error(ErrorKind::unsupported,
              fmt::format("LibTorch {} does not compute in {} on the {}; choose --dtype {}",
                          TORCH_VERSION, half ? "float16" : "bfloat16",
                          device.is_cpu() ? "CPU" : "GPU", half ? "bf16 or f32" : "f32"));
}

}  // namespace plumb
