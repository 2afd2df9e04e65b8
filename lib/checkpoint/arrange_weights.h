// From canonical weights to the tensors of a family's file.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/family.h"
#include "checkpoint/write_safetensors.h"

namespace plumb {

/// One weight to write; `make` gives it in its canonical shape when its turn comes.
struct WeightToWrite {
  at::ScalarType dtype = at::kFloat;
  std::function<at::Tensor()> make = {};
};

/// The family of that name; throws bad_argument.
const Family& family_to_write(const std::string& name);

/// The family's config.json, after making sure that reading it back gives the same model. Throws
/// bad_argument when the family cannot express the config.
Json config_to_write(const Family& family, const ModelConfig& config, at::ScalarType dtype);

/// Every tensor of the family's file: what is outside the blocks first, then block by block. `give`
/// is asked at once for every weight of the config; the values are made one tensor at a time.
std::vector<TensorToWrite> arrange_weights(
    const Family& family, const ModelConfig& config,
    const std::function<WeightToWrite(Weight weight, int layer)>& give);

/// Throws bad_argument.
[[noreturn]] void refuse_to_write(const std::string& message);

}  // namespace plumb
