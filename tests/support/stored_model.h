// A checkpoint on the disk that is large enough for its memory to be measured.
#pragma once

#include <filesystem>

#include "plumb/config.h"

namespace plumb::test {

/// 12 blocks of 4.2 MB in float32, so that the process' own fluctuations are small beside the
/// whole; dense, or with a mixture of experts in each.
ModelConfig stored_config(bool sparse);
/// A scratch directory with such a model of random weights.
std::filesystem::path write_stored(bool sparse);

}  // namespace plumb::test
