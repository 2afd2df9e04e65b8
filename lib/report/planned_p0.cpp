#include "plumb/planned_p0.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "plumb/p0_cost.h"

namespace plumb {

PlannedWork plan_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                    const std::vector<Wave>& waves) {
  const RunCost cost = foresee_p0(model, inputs, options, waves);
  PlannedWork work;
  work.command = "p0";
  std::vector<std::string> layers;
  for (const Wave& wave : waves) layers.push_back(fmt::format("{}-{}", wave.onset, wave.last));
  work.assuming = waves.empty() ? "no wave" : fmt::format("waves {}", fmt::join(layers, ", "));
  work.sequences = inputs.plain.tokens.batch();
  work.length = inputs.plain.length();
  work.evaluations = cost.evaluations;
  work.weight_bytes = cost.weight_bytes;
  work.activation_bytes = cost.activation_bytes;
  work.result_bytes = cost.result_bytes;
  work.peak_bytes = foresee_peak(model, cost);
  return work;
}

}  // namespace plumb
