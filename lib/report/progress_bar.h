// The progress bar with a clock that tests can set.
#pragma once

#include <cstdio>
#include <functional>

#include "plumb/progress.h"

namespace plumb {

/// `now` gives seconds since any fixed moment.
Progress progress_bar(std::FILE* out, bool tty, std::function<double()> now);

}  // namespace plumb
