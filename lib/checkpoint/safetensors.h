// The safetensors container: an 8-byte length, a JSON header, one gapless buffer.
#pragma once

#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/stored.h"

namespace plumb {

/// Every tensor of the file, sorted by name, pointing into `file`. Throws bad_file, naming the
/// tensor or byte, unless the header is well formed and the tensors tile the buffer: in bounds, of
/// the size that dtype and shape give, without overlap, gap or rest. Throws unsupported on a dtype
/// of unknown width.
std::vector<StoredTensor> read_safetensors(const MappedFile& file);

}  // namespace plumb
