// Writing a model as a Hugging Face directory.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "plumb/checkpoint.h"
#include "plumb/config.h"

namespace plumb {

/// Writes `config.json` and `model.safetensors` into `directory` (created if need be), under the
/// names and layout of `config.family`: llama, smollm3, qwen2, qwen3, mistral or gpt2.
/// `tensors` holds every weight that `weight_shape` gives a shape, and nothing else, under its
/// `weight_name` ("embed", "L0.q"), in its canonical shape, as float32, float64, float16 or
/// bfloat16. Each file appears whole or not at all: it is written beside its place, flushed, then
/// renamed. Throws bad_argument when the family cannot express the config (no-rope layers in a
/// llama, say) or the tensors do not fit it; bad_file when the disk is full or the place is not
/// writable.
void write_checkpoint(const std::filesystem::path& directory, const ModelConfig& config,
                      const std::map<std::string, at::Tensor>& tensors);

}  // namespace plumb
