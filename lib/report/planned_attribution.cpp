#include "plumb/planned_attribution.h"

#include "plumb/attribute_cost.h"

namespace plumb {

PlannedWork plan_attribution(const Model& model, const Pairs& pairs, const Metric& metric,
                             const EdgeOptions& options) {
  const RunCost cost = foresee_attribution(model, pairs, metric, options);
  PlannedWork work;
  work.command = "attribute";
  work.sequences = pairs.count();
  work.length = pairs.length();
  work.evaluations = cost.evaluations;
  work.weight_bytes = cost.weight_bytes;
  work.activation_bytes = cost.activation_bytes;
  work.result_bytes = cost.result_bytes;
  work.peak_bytes = foresee_peak(model, cost);
  return work;
}

}  // namespace plumb
