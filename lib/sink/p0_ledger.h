// Who writes the state of position zero along the sink direction.
#pragma once

#include "sink/p0_context.h"

namespace plumb {

/// Contributions along the wave's direction (reference: the ledger, identity U10).
Ledger make_ledger(P0Context& context, std::size_t wave);

/// The fewest components, largest first, that cover `share` of the total.
std::vector<Component> writers_of(const Ledger& ledger, double share);

/// "m2" to its component. Throws internal for other names.
Component component_named(const std::string& name);

}  // namespace plumb
