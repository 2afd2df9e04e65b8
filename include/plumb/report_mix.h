// What `plumb mix` measured: as text, JSON, an archive and a picture.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/mix.h"
#include "plumb/run_info.h"

namespace plumb {

std::string mix_text(const RunInfo& run, const Inputs& inputs, const MixReport& report);
std::string mix_json(const RunInfo& run, const Inputs& inputs, const MixReport& report);
/// An SVG picture: for each condition, how much of its norm the state at each layer and position
/// changes by when a token is another, on one logarithmic scale. Of the named conditions alone, if
/// any of these was measured.
std::string mix_svg(const MixReport& report, const std::vector<std::string>& conditions = {});

/// Writes the whole file or none. Throws bad_file if that cannot be done.
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const MixReport& report);

}  // namespace plumb
