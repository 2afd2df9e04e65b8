// Small random models of every family, as configs and weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "plumb/config.h"

namespace plumb::test {

/// Two layers, width 16, with whatever the family has that others lack.
ModelConfig small_config(const std::string& family);

/// One normal tensor for every weight of the config.
std::map<std::string, at::Tensor> random_weights(const ModelConfig& config, std::uint64_t seed,
                                                 at::ScalarType dtype = at::kFloat);

/// A directory in the scratch folder that holds `small_config(family)`.
std::filesystem::path small_model(const std::string& family);

/// Replaces a field of a directory's config.json; `value` is JSON text.
void set_field(const std::filesystem::path& directory, const std::string& field,
               const std::string& value);

}  // namespace plumb::test
