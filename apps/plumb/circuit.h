// The groups of plumb circuit.
#pragma once

#include <vector>

#include "plumb/circuit_files.h"
#include "shared.h"

namespace plumb::app {

/// How circuit files are read.
struct CircuitFlags {
  std::optional<int> kv_heads = {};
  std::optional<EdgeSpace> space = {};
};
void offer_reading(CLI::App& app, CircuitFlags& flags);
/// Its title is the file's name where it has none.
EdgeCircuit open_circuit(const std::string& file, const CircuitFlags& flags);

/// Where a circuit goes, and as what.
struct CircuitTarget {
  std::string file = {};
  std::optional<CircuitFormat> format = {};
  ViewWords view = {};
};
void offer_target(CLI::App& app, CircuitTarget& target);
/// Writes the circuit, if it is to go anywhere.
void write(const EdgeCircuit& circuit, const CircuitTarget& target);

Command circuit_compare_command();
Command circuit_convert_command();
Command circuit_draw_command();
Command circuit_evaluate_command();
Command circuit_paths_command();
Command circuit_prune_command();
Command circuit_search_command();

/// "circuit convert" and so on, by name.
std::vector<Command> circuit_commands();

}  // namespace plumb::app
