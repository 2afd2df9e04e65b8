// Golden files as tensors and pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>

#include "plumb/pairs.h"

namespace plumb::test {

/// Nested lists of numbers as a float64 tensor.
at::Tensor tensor_of(const nlohmann::json& nested);

/// The pairs of a file with `clean`, `corrupt` and `answers`: [[right, wrong], ...].
Pairs pairs_of(const nlohmann::json& golden);

}  // namespace plumb::test
