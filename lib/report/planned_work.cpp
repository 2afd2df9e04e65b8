#include "plumb/planned_work.h"

#include <ATen/ATen.h>

#include "plumb/sink.h"
#include "report/planned.h"

namespace plumb {

PlannedWork report::planned(const Model& model, const char* command, std::int64_t sequences,
                            std::int64_t length, const RunCost& cost) {
  PlannedWork work;
  work.command = command;
  work.sequences = sequences;
  work.length = length;
  work.evaluations = cost.evaluations;
  work.weight_bytes = cost.weight_bytes;
  work.activation_bytes = cost.activation_bytes;
  work.result_bytes = cost.result_bytes;
  work.peak_bytes = foresee_peak(model, cost);
  return work;
}

PlannedWork plan_record(const Model& model, const Inputs& inputs, const RecordOptions& options) {
  const std::int64_t sequences = inputs.tokens.batch();
  const RunCost cost = foresee(model, sequences, inputs.length(), record_plan(model, options.sites),
                               record_part(model, inputs, options));
  PlannedWork work = report::planned(model, "record", sequences, inputs.length(), cost);
  for (const SlicedSite& site : options.sites) {
    auto bytes = static_cast<std::int64_t>(at::elementSize(options.store));
    for (const std::int64_t size : shape_of(model.config(), sequences, inputs.length(), site)) {
      bytes *= size;
    }
    work.written_bytes += bytes;
  }
  return work;
}

PlannedWork plan_sink(const Model& model, std::int64_t sequences, std::int64_t length,
                      int conditions) {
  PlannedWork work =
      report::planned(model, "sink", sequences, length, foresee_survey(model, sequences, length));
  work.evaluations *= conditions;
  return work;
}

}  // namespace plumb
