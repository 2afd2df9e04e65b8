#include "long_run.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "failure.h"
#include "plumb/error.h"

namespace plumb::app {

std::unique_ptr<TileFile> tile_file(const std::string& out, const std::string& name, bool resume) {
  if (out.empty()) return nullptr;
  return std::make_unique<TileFile>(std::filesystem::path(out) / (name + ".tiles.h5"), resume);
}

int tell_interrupted(const TileFile& tiles) {
  std::fputs(fmt::format("plumb: interrupted; {} of {} tiles are in {}; the same call with "
                         "--resume goes on\n",
                         tiles.finished(), tiles.count(), tiles.path().string())
                 .c_str(),
             stderr);
  return exit_code(ErrorKind::interrupted);
}

int run_ranks(const std::function<int(Ranks& ranks)>& part) {
  Ranks ranks;
  try {
    return part(ranks);
  } catch (...) {
    if (ranks.size() > 1) ranks.abort(tell_failure());
    throw;
  }
}

}  // namespace plumb::app
