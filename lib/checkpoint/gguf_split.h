// A model in one GGUF file, or in the parts of a split one.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"

namespace plumb {

/// The file, or the parts in order; the first of them has the metadata.
struct GgufModel {
  GgufFile head;
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<StoredTensor> tensors;  ///< of all files, sorted by name, pointing into `files`
};

/// Opens `path` and, where it is the first part of a split model, the other parts beside it, which
/// are called NAME-00001-of-00003.gguf and so on. Throws as GgufFile does, and bad_file when `path`
/// is another part, when a part is missing, or when the parts contradict each other.
GgufModel open_gguf_parts(const std::filesystem::path& path);

/// "-00001-of-00003": what ends the name of part `number` (from 0) of `count`, before ".gguf".
std::string gguf_part_suffix(std::int64_t number, std::int64_t count);

}  // namespace plumb
