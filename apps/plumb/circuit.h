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

Command circuit_compare_command();
Command circuit_convert_command();
Command circuit_draw_command();
Command circuit_evaluate_command();
Command circuit_paths_command();
Command circuit_prune_command();

/// "circuit convert" and so on, by name.
std::vector<Command> circuit_commands();

}  // namespace plumb::app
