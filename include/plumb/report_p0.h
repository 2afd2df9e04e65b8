// Experiments of the P0 catalogue as text, JSON and an HDF5 archive.
#pragma once

#include <filesystem>
#include <string>

#include "plumb/p0_catalogue.h"
#include "plumb/run_info.h"

namespace plumb {

/// A line for each identifier: what `plumb p0 --list` prints.
std::string p0_catalogue_text();

std::string p0_experiments_text(const RunInfo& run, const P0Experiments& found);

/// Without the arrays, which the archive holds; their names and shapes are listed.
std::string p0_experiments_json(const RunInfo& run, const P0Experiments& found);

/// One file with everything, arrays included: /experiments/B3_wave1/... Throws bad_file.
void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const P0Experiments& found, const P0Inputs& inputs);

}  // namespace plumb
