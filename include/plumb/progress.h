// Telling the user how far a long job is.
#pragma once

#include <functional>
#include <string_view>

namespace plumb {

/// Called by long jobs, from one thread at a time: what is being done, and the share done, 0..1.
/// May throw to stop the job (`interrupted`).
using Progress = std::function<void(std::string_view what, double done)>;

}  // namespace plumb
