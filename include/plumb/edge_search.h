// A circuit found by taking edges out one after another (ACDC, arXiv:2304.14997), run on a model.
#pragma once

#include <cstdint>

#include "plumb/edge_paths.h"
#include "plumb/edge_run.h"

namespace plumb {

struct CircuitSearch {
  EdgeCircuit circuit = {};
  double start_loss = 0.0;             ///< of the circuit that the search began with, pruned
  double loss = 0.0;                   ///< of the one found
  std::int64_t tried = 0;              ///< sets of edges that were run
  std::int64_t evaluations = 0;        ///< token-layer evaluations made, as in `EdgeRuns`
  std::int64_t naive_evaluations = 0;  ///< those of one forward pass for each set
};

/// `search_edges` from `start`. The loss of a circuit is, of a divergence (kl, reverse_kl, js), its
/// mean over pairs; of another metric, how far its mean is from that of the model. An edge that is
/// tried changes nothing before its receiver: only what follows is run.
/// Throws what `run_edges` throws, and bad_argument where the loss is not finite.
CircuitSearch search_circuit(const Model& model, const EdgeCircuit& start, const Pairs& pairs,
                             const EdgeRunOptions& run = {}, const SearchOptions& options = {},
                             const Progress& progress = {});

}  // namespace plumb
