// Evaluated circuits as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plumb/edge_paths.h"
#include "plumb/edge_search.h"
#include "plumb/evaluate.h"
#include "plumb/path_effects.h"
#include "plumb/run_info.h"

namespace plumb {

/// What `plumb circuit evaluate` found: one of the first two, and what single edges add to the
/// first circuit if that was asked for.
struct CircuitReport {
  std::optional<Evaluation> evaluation = {};
  std::optional<CurveReport> curve = {};
  EdgeSpace space = {};
  std::vector<EdgeNeed> needs = {};
};
std::string circuit_json(const RunInfo& run, const Pairs& pairs, const CircuitReport& report);
std::string circuit_text(const RunInfo& run, const Pairs& pairs, const CircuitReport& report);

/// Circuits of one model side by side: every pair of them. Text, or one JSON document.
struct NamedCircuit {
  std::string name = {};
  EdgeCircuit circuit = {};
};
std::string comparison_text(const std::vector<NamedCircuit>& circuits);
std::string comparison_json(const std::vector<NamedCircuit>& circuits);

/// A circuit's size, bottlenecks, smallest cut and strongest paths; `effects`, where they were run,
/// are those of the paths of `strongest_paths` of the pruned circuit.
std::string paths_text(const EdgeCircuit& circuit, std::int64_t k,
                       const PathEffects* effects = nullptr);
std::string paths_json(const EdgeCircuit& circuit, std::int64_t k,
                       const PathEffects* effects = nullptr);

/// What a search found, and where it was written.
std::string search_text(const CircuitSearch& found, const Metric& metric, double threshold,
                        const std::string& file);
std::string search_json(const CircuitSearch& found, const Metric& metric, double threshold,
                        const std::string& file);

/// What a circuit holds, and where it was written (empty = nowhere).
std::string summary_text(const EdgeCircuit& circuit, const std::string& file);
std::string summary_json(const EdgeCircuit& circuit, const std::string& command,
                         const std::string& file);

}  // namespace plumb
