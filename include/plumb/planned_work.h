// What a command will cost, before it is run.
#pragma once

#include <cstdint>
#include <string>

#include "plumb/cost.h"
#include "plumb/inputs.h"
#include "plumb/record.h"

namespace plumb {

/// Bytes are those of memory, but for `stored_bytes`.
struct PlannedWork {
  std::string command = {};   ///< "record", "sink"
  std::string assuming = {};  ///< what the cost depends on and is not known yet; empty = nothing
  std::int64_t sequences = 0;
  std::int64_t length = 0;            ///< positions of each, any BOS included
  std::int64_t evaluations = 0;       ///< token-layer evaluations, of all conditions
  std::int64_t weight_bytes = 0;      ///< of the weights it needs, as the arithmetic holds them
  std::int64_t activation_bytes = 0;  ///< most at any moment
  std::int64_t result_bytes = 0;      ///< recorded or kept, most at any moment
  std::int64_t peak_bytes = 0;        ///< of the process
  std::int64_t written_bytes = 0;     ///< values that go to the disk
};

/// Of `record` with these options.
PlannedWork plan_record(const Model& model, const Inputs& inputs, const RecordOptions& options);

/// Of `survey_sink` on inputs of this shape, in so many conditions.
PlannedWork plan_sink(const Model& model, std::int64_t sequences, std::int64_t length,
                      int conditions);

}  // namespace plumb
