// Results as pictures.
#pragma once

#include <string>

#include "plumb/patch.h"

namespace plumb {

/// The report's sweeps over two axes as heat maps, one below another: white = the unpatched run,
/// red above it, blue below, grey = no such site. Empty if there are none.
std::string patch_svg(const PatchReport& report);

}  // namespace plumb
