// How recordings are shown.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "plumb/site.h"

namespace plumb::report {

/// "f16", "f32", "f64"
const char* show_store(at::ScalarType store);

/// "L3.z[h=1,4;t=0-127]": parses back, with runs of indices as ranges.
std::string show_site(const SlicedSite& site);

}  // namespace plumb::report
