// Checksums of mapped files, as `sha256sum` prints them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"

namespace plumb {

/// Hex, of the whole file.
std::string hash_file(const MappedFile& file);

/// Hex, of what `sha256sum FILES...` prints, in the order of their names, had each file only its
/// first `bytes(file)` bytes.
std::string hash_files(const std::vector<std::shared_ptr<const MappedFile>>& files,
                       const std::function<std::uint64_t(const MappedFile&)>& bytes);

}  // namespace plumb
