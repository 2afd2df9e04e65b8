// What editing weights and measuring edits share.
#pragma once

#include <string>
#include <vector>

#include "plumb/config.h"
#include "sink/p0_context.h"

namespace plumb {

/// "m1+m2", commas being allowed too; empty: all. Throws bad_argument.
std::vector<Component> edited_components(const std::string& text, const ModelConfig& config);

}  // namespace plumb
