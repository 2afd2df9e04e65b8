// What locating the circuit will cost, before it is known where it is.
#pragma once

#include <vector>

#include "plumb/cost.h"
#include "plumb/p0.h"

namespace plumb {

/// Waves that the papers' models lead one to expect: one, from layer 2 to the last.
std::vector<Wave> expected_waves(const Model& model);

/// Of `locate_p0` if the survey finds these waves, of which `onset` and `last` are read. Surveys
/// are counted exactly. The search's share is an estimate: how many sets are tried and how far the
/// smallest mask is narrowed depends on what is found, and experiments on position 0 alone, which
/// are cheap, are left out. Throws bad_argument where a wave is none of the model's, or does not
/// begin after the one before.
RunCost foresee_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                   const std::vector<Wave>& waves);

}  // namespace plumb
