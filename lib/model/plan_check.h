// Whether a plan, tokens and a model fit each other.
#pragma once

#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb {

/// Throws bad_argument or bad_shape, naming the site and what would fit.
void check(const Model& model, const Tokens& tokens, const Plan& plan);

}  // namespace plumb
