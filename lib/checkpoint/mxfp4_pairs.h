// MXFP4 as Hugging Face stores it: nibbles in one tensor, the powers of two of their blocks in
// another.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/stored.h"

namespace plumb {

/// Makes of every X_blocks [E, R, G, 16] and X_scales [E, R, G], both U8, one tensor X [E, R, 32 G]
/// of Storage::mxfp4_pair. `tensors` is sorted by name, before and after. Throws bad_file,
/// beginning with `where`, for one without the other, other types or shapes, or an X that is there
/// besides.
void join_mxfp4_pairs(std::vector<StoredTensor>& tensors, const std::string& where);

}  // namespace plumb
