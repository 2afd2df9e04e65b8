// What `plumb attribute` found of nodes, as text, JSON and HDF5.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "plumb/attribute_nodes.h"
#include "plumb/run_info.h"

namespace plumb {

/// At most 110 columns, UTF-8. `top` nodes are listed, those of the largest absolute score.
std::string nodes_text(const RunInfo& run, const Pairs& pairs, const NodeReport& report,
                       std::int64_t top = 20);

/// Ends with a newline; a number that is not finite becomes null. `top` 0 = all nodes are listed.
std::string nodes_json(const RunInfo& run, const Pairs& pairs, const NodeReport& report,
                       std::int64_t top = 0);

/// Writes a whole file or none; its layout is stated in docs/formats.md. Throws bad_file.
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const NodeReport& report);

}  // namespace plumb
