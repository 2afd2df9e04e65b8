// A planted model drawn at random, and how well the locator reads it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/p0.h"
#include "plumb/plant.h"

namespace plumb::test {

/// Kinds of planted models: routes, and what can be added to the positional one.
const std::vector<std::string>& trial_kinds();

/// Sizes, depth, norm, positions, groups and noise drawn from the seed.
PlantOptions draw_trial(const std::string& kind, std::uint64_t seed);

/// "llama" of the options: "6 layers, 4/2 heads, width 160, layer norm, alibi, detect 1, write 4".
std::string describe(const PlantOptions& options);

/// What the locator said of a model against what was planted.
struct TrialScore {
  std::string verdict = {};
  bool verdict_right = false;
  int waves = 0;  ///< planted
  int waves_found = 0;
  int false_waves = 0;
  int nodes = 0;  ///< planted components of the circuit, the input left out
  int nodes_found = 0;
  int false_nodes = 0;
  int edges = 0;
  int edges_found = 0;
  int false_edges = 0;  ///< that raise the projection
  int lowering_edges =
      0;  ///< not planted, that lower it: through the norms, which all writes share
  double largest_false_edge = 0;  ///< share of the projection that the strongest of them carries
  int extras = 0;                 ///< planted erasers, backups, and positions that a sink moves to
  int extras_found = 0;
  int rungs = 0;  ///< L1 to L6 of a planted positional circuit's waves
  int rungs_held = 0;
  std::vector<std::string> faults = {};  ///< what was missed or made up
  bool clean() const { return faults.empty(); }
};

P0Report locate_trial(const Planted& planted);
TrialScore score_trial(const Planted& planted, const P0Report& report);

}  // namespace plumb::test
