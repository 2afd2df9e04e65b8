// Nodes of a report as sites.
#pragma once

#include <cstdint>
#include <vector>

#include "plumb/attribute_nodes.h"

namespace plumb {

struct PlacedNode {
  int layer = 0;
  std::vector<std::int64_t> places = {};  ///< along each of the spec's axes
};
PlacedNode place_of(const NodeSweep& sweep, std::int64_t index);
SlicedSite site_of(const NodeSweep& sweep, const PlacedNode& placed);

/// Whether the metric can see a node of the layer: it is not read before.
bool is_seen(const Metric& metric, Part part, int layer);

}  // namespace plumb
