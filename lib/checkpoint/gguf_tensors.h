// The tensors that the header of a GGUF file describes.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/gguf_cursor.h"
#include "checkpoint/stored.h"

namespace plumb {

/// Reads `count` descriptions from the cursor on and finds their data behind them, sorted by name.
/// `alignment` is a power of two. Throws bad_file naming the tensor that is malformed, truncated,
/// out of place or there twice; unsupported on a type without a known layout.
std::vector<StoredTensor> read_gguf_tensors(GgufCursor& cursor, std::uint64_t count,
                                            std::uint64_t alignment);

}  // namespace plumb
