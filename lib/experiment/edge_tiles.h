// Effects of edges, tile by tile: kept, shared among threads and ranks.
#pragma once

#include <vector>

#include "experiment/edge_samples.h"
#include "plumb/attribute.h"
#include "plumb/tiles.h"

namespace plumb {

/// Those of direct and exact, by tiles of pairs; edges that were not asked for are NaN.
/// `report` has options, metric and space.
std::vector<EdgeTile> effect_tiles(const EdgeReport& report, const Model& model, const Pairs& pairs,
                                   const Progress& progress, const Tiles& tiles);

}  // namespace plumb
