// The version of plumb, stated here only: the build reads it from this file.
#pragma once

#define PLUMB_VERSION_MAJOR 0
#define PLUMB_VERSION_MINOR 1
#define PLUMB_VERSION_PATCH 0

namespace plumb {

/// The version of the library in use, "0.1.0".
const char* version() noexcept;

}  // namespace plumb
