// Walking the header of a GGUF file.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"

namespace plumb {

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<StoredTensor> tensors;  ///< sorted by name
};

/// Throws as the constructor of GgufFile does.
GgufHeader parse_gguf(const MappedFile& file);

/// Bytes of one scalar; 0 for strings and arrays.
std::size_t scalar_bytes(GgufType type);

}  // namespace plumb
