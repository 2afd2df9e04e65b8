// Trainings side by side: as text, JSON and a picture.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plumb/trace_runs.h"

namespace plumb {

/// What each training came to, and what foretold its loss, where that was asked.
std::string trace_runs_text(const std::vector<RunOutcome>& runs,
                            const std::optional<ForesightReport>& foresight);
std::string trace_runs_json(const std::vector<RunOutcome>& runs,
                            const std::optional<ForesightReport>& foresight);

/// An SVG picture with a panel for each column and a line for each run. A column that only some
/// runs have is drawn of these; "x*" is the largest of the columns whose names begin with "x".
/// Throws bad_argument where no run has it.
std::string trace_runs_svg(const std::vector<TracedRun>& runs,
                           const std::vector<std::string>& columns);

}  // namespace plumb
