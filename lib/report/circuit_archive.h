// Edge circuits in archives.
#pragma once

#include <filesystem>

#include "plumb/edge_circuit.h"

namespace plumb::report {

void write_circuit_archive(const EdgeCircuit& circuit, const std::filesystem::path& path);
/// /circuit, or the scores in /attribution. Throws bad_file.
EdgeCircuit read_circuit_archive(const std::filesystem::path& path);

}  // namespace plumb::report
