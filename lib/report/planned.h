// What every plan says of a run whose cost is known.
#pragma once

#include "plumb/planned_work.h"

namespace plumb::report {

PlannedWork planned(const Model& model, const char* command, std::int64_t sequences,
                    std::int64_t length, const RunCost& cost);

}  // namespace plumb::report
