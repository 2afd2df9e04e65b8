#include "rooms/includes.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <regex>
#include <string_view>
#include <utility>

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// In the order in which they may include one another.
constexpr std::array<std::string_view, 9> kRooms = {
    "core", "checkpoint", "model", "experiment", "circuit", "sink", "lab", "archive", "report"};

/// A room after `experiment` may not use its neighbours, except for the pairs here.
constexpr std::array<std::pair<std::string_view, std::string_view>, 1> kNeighbours = {
    {{"sink", "circuit"}}};

/// A dependency by the start of its includes, and the only places (prefixes of paths) that may use
/// it.
struct Dependency {
  std::string_view include;
  std::vector<std::string_view> places;
};

const std::vector<Dependency>& dependencies() {
  static const std::vector<Dependency> all = {
      {"boost/", {"lib/circuit/"}},
      {"hdf5", {"lib/archive/"}},
      {"H5", {"lib/archive/"}},
      {"mpi.h", {"lib/core/"}},
      {"openssl/", {"lib/core/"}},
      {"CLI/", {"apps/"}},
      {"nlohmann/", {"lib/", "apps/"}},
      {"fmt/", {"lib/", "apps/"}},
      {"pcre2", {"lib/checkpoint/"}},
      {"utf8proc", {"lib/checkpoint/"}},
      {"torch/torch.h", {}},
      {"torch/all.h", {}},
  };
  return all;
}

/// Position in kRooms, or -1.
int rank_of(std::string_view room) {
  const auto found = std::find(kRooms.begin(), kRooms.end(), room);
  return found == kRooms.end() ? -1 : static_cast<int>(found - kRooms.begin());
}

bool may_use(std::string_view from, std::string_view to) {
  if (from == to || from == "report") return true;
  for (const auto& [user, used] : kNeighbours) {
    if (from == user && to == used) return true;
  }
  return rank_of(to) < rank_of(from) && rank_of(to) <= rank_of("experiment");
}

/// Public headers without a source of their name: which room's they are.
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kHeaders = {
    {{"plan", "core"},
     {"progress", "core"},
     {"tiles", "core"},
     {"hash", "core"},
     {"config", "checkpoint"},
     {"checkpoint_write", "checkpoint"},
     {"circuit", "circuit"},
     {"edge_formats", "circuit"},
     {"archive", "archive"},
     {"report", "report"}}};

/// The room of a public header, "sink" for "sink.h": the first that has a source of that name.
/// Empty when there is none.
std::string room_of(const fs::path& tree, const std::string& header) {
  const std::string name = fs::path(header).stem().string();
  for (const auto& [known, room] : kHeaders) {
    if (name == known) return std::string(room);
  }
  for (const std::string_view room : kRooms) {
    if (fs::exists(tree / "lib" / room / (name + ".cpp"))) return std::string(room);
  }
  return "";
}

/// Why `file` (relative to the tree) may not include `included`; empty when it may.
std::string objection(const fs::path& tree, const std::string& file, const std::string& included) {
  for (const Dependency& dependency : dependencies()) {
    if (!included.starts_with(dependency.include)) continue;
    const bool allowed =
        std::any_of(dependency.places.begin(), dependency.places.end(),
                    [&](std::string_view place) { return file.starts_with(place); });
    if (!allowed) return "<" + included + "> does not belong here";
  }
  const bool is_public = included.starts_with("plumb/");
  const std::string top = included.substr(0, included.find('/'));
  if (!is_public && (top == included || rank_of(top) < 0)) return "";
  const std::string to = is_public ? room_of(tree, included) : top;

  if (file.starts_with("apps/")) {
    return is_public ? "" : "programs include plumb/ only, not room " + to;
  }
  std::string from;
  if (file.starts_with("include/")) {
    if (!is_public) return "public headers include plumb/ only, not room " + to;
    from = room_of(tree, file);
  } else {
    from = file.substr(4, file.find('/', 4) - 4);  // after "lib/"
    if (rank_of(from) < 0) return "room " + from + " is not in the list of rooms";
  }
  if (from.empty() || to.empty()) {
    return "no room has a source named after " + (to.empty() ? included : file) +
           "; say in kHeaders of tests/rooms/includes.cpp whose it is";
  }
  if (may_use(from, to)) return "";
  return "room " + from + " may not include " + (is_public ? included + " of " : "") + "room " + to;
}

bool is_source(const fs::path& path) {
  return path.extension() == ".h" || path.extension() == ".cpp";
}

}  // namespace

std::vector<std::string> forbidden_includes(const fs::path& tree, int& files_read) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"].*)");
  std::vector<std::string> found;
  files_read = 0;
  for (const char* part : {"include", "lib", "apps"}) {
    if (!fs::exists(tree / part)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(tree / part)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      ++files_read;
      const std::string file = fs::relative(entry.path(), tree).generic_string();
      std::ifstream in(entry.path());
      std::string line;
      for (int number = 1; std::getline(in, line); ++number) {
        std::smatch match;
        if (!std::regex_match(line, match, kInclude)) continue;
        const std::string why = objection(tree, file, match[1].str());
        if (!why.empty()) found.push_back(file + ":" + std::to_string(number) + ": " + why);
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace plumb::test
