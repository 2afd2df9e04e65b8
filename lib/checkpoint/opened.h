// What opening a checkpoint yields, whatever its format.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/family.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/stored.h"

namespace plumb {

struct Opened {
  std::string format = {};  ///< "safetensors" or "gguf"
  std::string where = {};   ///< begins messages
  ModelConfig config = {};
  std::vector<std::shared_ptr<const MappedFile>> files = {};  ///< all that make up the model
  std::vector<StoredTensor> tensors = {};  ///< sorted by name, pointing into `files`
  /// Where a weight that the config has lies, under the names of this file.
  std::function<Source(Weight, int)> source = {};
  std::string layer_prefix = {};                       ///< begins the names of the layers' tensors
  std::function<bool(std::string_view)> ignores = {};  ///< tensors that no weight needs
};

/// A directory with config.json and model.safetensors, or the shards that
/// model.safetensors.index.json names. Throws bad_file or unsupported.
Opened open_hf_directory(const std::filesystem::path& directory);

/// A GGUF file of an architecture that plumb knows. Throws bad_file or unsupported.
Opened open_gguf(const std::filesystem::path& path);

}  // namespace plumb
