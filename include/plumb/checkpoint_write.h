// Writing a model as a Hugging Face directory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/config.h"
#include "plumb/progress.h"

namespace plumb {

/// Writes `config.json` and `model.safetensors` into `directory` (created if need be), under the
/// names and layout of `config.family`, any family that plumb reads.
/// `tensors` holds every weight that `weight_shape` gives a shape, and nothing else, under its
/// `weight_name` ("embed", "L0.q"), in its canonical shape, as float32, float64, float16 or
/// bfloat16. Each file appears whole or not at all: it is written beside its place, flushed, then
/// renamed. Throws bad_argument when the family cannot express the config (no-rope layers in a
/// llama, say) or the tensors do not fit it; bad_file when the disk is full or the place is not
/// writable.
void write_checkpoint(const std::filesystem::path& directory, const ModelConfig& config,
                      const std::map<std::string, at::Tensor>& tensors);

struct ConvertOptions {
  /// Type of the stored weights: float32, float64, float16 or bfloat16. Empty: the narrowest that
  /// holds every weight exactly; float32 where quantised or differing types are expanded.
  std::optional<at::ScalarType> dtype = {};
  std::int64_t shard_bytes = 5'000'000'000;  ///< a larger model is cut into files of this size
};

/// What a conversion wrote.
struct Conversion {
  std::filesystem::path directory = {};
  std::string dtype = {};               ///< "F32"
  std::vector<std::string> files = {};  ///< names within the directory
  std::int64_t parameters = 0;
  std::int64_t weight_bytes = 0;       ///< of the tensors
  std::int64_t rounded = 0;            ///< weights that the dtype does not hold exactly
  std::string tokenizer_problem = {};  ///< why no tokenizer was written; empty if one was
};

/// Writes the checkpoint as a Hugging Face directory that Python's tools read as the same weights:
/// config.json, the weights (model.safetensors, or numbered shards and their index), the tokenizer
/// (copied from a directory, made from a GGUF file's metadata). One tensor is held in memory at a
/// time. Nothing appears in `directory` before everything is on the disk. Afterwards every weight
/// is read back and compared with its source.
/// Throws bad_argument when `directory` holds a model already, the family cannot be written, or a
/// weight overflows the dtype; bad_file when the disk is full or the place is not writable.
Conversion convert_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& directory,
                              const ConvertOptions& options = {}, const Progress& progress = {});

}  // namespace plumb
