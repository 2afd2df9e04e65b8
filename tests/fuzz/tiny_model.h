// The smallest model there is, and files of a config's weights.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/arrange_weights.h"

namespace plumb::fuzz {

/// config.json of a Llama of one block and width 4.
extern const std::string_view tiny_config;

/// The tensors of the family's file for this config, without values. Throws what arrange_weights
/// does.
std::vector<TensorToWrite> tensors_of(const ModelConfig& config);

/// The model that a config.json describes. Throws bad_file or unsupported.
ModelConfig read_config(std::string_view json);

/// How many bytes a file of these tensors takes; no more than 2^62.
std::uint64_t data_bytes(const std::vector<TensorToWrite>& tensors);

/// A safetensors file with small numbers in these tensors.
std::string safetensors_of(const std::vector<TensorToWrite>& tensors);

}  // namespace plumb::fuzz
