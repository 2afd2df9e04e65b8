// How well the locator reads a planted model: what it found, missed and made up.
#pragma once

#include <string>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/p0.h"
#include "plumb/plant.h"

namespace plumb::test {

/// Something the locator drew or named that nobody wired, judged on unseen sequences by plain
/// arithmetic on the planted weights.
enum class Ruling {
  real,  ///< an effect of these weights, of the claimed sign and as large as the search promises
  overstated,  ///< of the claimed sign, but smaller than promised
  made_up,     ///< not to be told from none, or of the other sign
};
const char* to_string(Ruling ruling) noexcept;

struct Unwired {
  std::string what = {};  ///< "m0->m1", "m3"
  double claimed = 0;     ///< share of the projection
  Estimate effect = {};   ///< the same on unseen sequences
  Ruling ruling = Ruling::made_up;
  bool node = false;
};

/// What the locator said of a model against what was planted.
struct TrialScore {
  std::string verdict = {};
  bool verdict_right = false;
  int waves = 0;  ///< planted
  int waves_found = 0;
  int false_waves = 0;
  int nodes = 0;  ///< planted components of the circuit, the input left out
  int nodes_found = 0;
  int edges = 0;
  int edges_found = 0;
  int extras = 0;  ///< planted erasers, backups, and positions that a sink moves to
  int extras_found = 0;
  std::vector<Unwired> unwired = {};
  int rungs = 0;  ///< L1 to L6 of a planted positional circuit's waves
  int rungs_held = 0;
  int rungs_rightly_refused = 0;         ///< the plant itself does not have what the rung asks for
  std::vector<std::string> missed = {};  ///< planted, not found; rungs that should hold
  std::vector<std::string> made_up =
      {};  ///< claimed, and neither planted nor an effect of the weights
  bool clean() const { return missed.empty() && made_up.empty(); }
};

TrialScore score_trial(const Planted& planted, const P0Report& report);

}  // namespace plumb::test
