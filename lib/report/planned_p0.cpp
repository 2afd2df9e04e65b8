#include "plumb/planned_p0.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "plumb/p0_cost.h"
#include "report/planned.h"

namespace plumb {

PlannedWork plan_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                    const std::vector<Wave>& waves) {
  const RunCost cost = foresee_p0(model, inputs, options, waves);
  PlannedWork work =
      report::planned(model, "p0", inputs.plain.tokens.batch(), inputs.plain.length(), cost);
  std::vector<std::string> layers;
  for (const Wave& wave : waves) layers.push_back(fmt::format("{}-{}", wave.onset, wave.last));
  work.assuming = waves.empty() ? "no wave" : fmt::format("waves {}", fmt::join(layers, ", "));
  return work;
}

}  // namespace plumb
