// How much lies in memory at the same time while a block works, from shapes alone.
#pragma once

#include <cstdint>

#include "plumb/config.h"

namespace plumb {

/// Elements, for so many rows of the stream. `scores`: entries of scores and patterns that are
/// there together; `head_out`: each head's write is taken apart.
std::int64_t attention_elements(const ModelConfig& config, std::int64_t rows, std::int64_t scores,
                                bool head_out);
/// `expert_out`: each expert's write is taken apart.
std::int64_t mlp_elements(const ModelConfig& config, int layer, std::int64_t rows, bool expert_out);

}  // namespace plumb
