// Which types of numbers a device computes in.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

/// Throws unsupported where the decoder, or this LibTorch on the device, cannot compute in the
/// type.
void check_arithmetic(at::ScalarType type, at::Device device);

}  // namespace plumb
