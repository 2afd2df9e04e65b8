// `plumb trace` of several trainings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shared.h"

namespace plumb::app {

struct TraceRunsFlags {
  std::vector<std::string> draw = {};       ///< columns; empty = what says most of a sink
  std::vector<std::int64_t> horizons = {};  ///< steps ahead; empty = nothing is foretold
  std::vector<std::string> series = {};     ///< by which
  std::int64_t first = 0;
  bool any() const { return !draw.empty() || !horizons.empty() || !series.empty() || first > 0; }
};
void offer_trace_runs(CLI::App& app, TraceRunsFlags& flags);

/// Trainings side by side, from what is in their directories. Runs no model.
int run_trace_runs(const std::vector<std::string>& directories, const TraceRunsFlags& flags,
                   const Common& common, const std::string& svg);

}  // namespace plumb::app
