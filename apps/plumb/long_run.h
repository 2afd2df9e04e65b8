// Commands whose finished tiles are kept, so that they can go on after an end, and are shared among
// processes.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "plumb/ranks.h"
#include "plumb/tile_file.h"

namespace plumb::app {

/// Where `name` + ".tiles.h5" lies in the directory; none without a directory.
std::unique_ptr<TileFile> tile_file(const std::string& out, const std::string& name, bool resume);

/// Says what is kept of an interrupted run. Returns the exit code.
int tell_interrupted(const TileFile& tiles);

/// Runs the part of one of several processes; where it throws, all of them end.
int run_ranks(const std::function<int(Ranks& ranks)>& part);

}  // namespace plumb::app
