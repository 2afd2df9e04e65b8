#include "plumb/planned_attribution.h"

#include "plumb/attribute_cost.h"
#include "report/planned.h"

namespace plumb {

PlannedWork plan_attribution(const Model& model, const Pairs& pairs, const Metric& metric,
                             const EdgeOptions& options) {
  const RunCost cost = foresee_attribution(model, pairs, metric, options);
  return report::planned(model, "attribute", pairs.count(), pairs.length(), cost);
}

}  // namespace plumb
