// What reports of edge scores share, whoever runs the model.
#pragma once

#include <string>

#include "plumb/attribute.h"

namespace plumb {

/// Throws as `edge_report` says. Of a tapped model, `model` is the one that has its sizes.
void check_edge_options(const Model& model, const Pairs& pairs, const Metric& metric,
                        const EdgeOptions& options);

/// One sentence: what a score is.
std::string edge_convention(const Pairs& pairs, const Metric& metric, const EdgeOptions& options);

}  // namespace plumb
