// Which senders, nodes and receivers of path patching make sense together.
#pragma once

#include <vector>

#include "plumb/patch.h"
#include "plumb/run.h"

namespace plumb {

class Model;

/// Throws bad_argument, naming the site, where a sender writes nothing, a node or receiver reads
/// nothing, or nothing sent can arrive.
void check_paths(const Model& model, const Tokens& tokens, const std::vector<SweepSpec>& senders,
                 const Paths& paths, const Metric& metric);

}  // namespace plumb
