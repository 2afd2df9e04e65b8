// Pieces of the archive of `plumb p0`.
#pragma once

#include <string>

#include "plumb/archive.h"
#include "plumb/p0.h"

namespace plumb::report {

/// Everything found about a wave, under the group.
void put_wave(ArchiveWriter& file, const std::string& group, const WaveReport& found);

}  // namespace plumb::report
