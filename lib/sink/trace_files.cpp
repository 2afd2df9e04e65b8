// Which entries of a directory are checkpoints, and of which step.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "plumb/error.h"
#include "plumb/trace.h"

namespace plumb {

namespace {

namespace fs = std::filesystem;

// The last run of digits in the name, if there is one that is a number.
std::optional<std::int64_t> step_of(const std::string& name) {
  const std::size_t last = name.find_last_of("0123456789");
  if (last == std::string::npos) return {};
  const std::size_t before = name.find_last_not_of("0123456789", last);
  const std::size_t first = before == std::string::npos ? 0 : before + 1;
  std::int64_t step = 0;
  const char* end = name.data() + last + 1;
  const auto [stop, error] = std::from_chars(name.data() + first, end, step);
  if (error != std::errc{} || stop != end) return {};
  return step;
}

void add_stamp(const fs::path& file, std::string& stamp) {
  struct stat info = {};
  if (::stat(file.c_str(), &info) != 0) return;
  stamp += fmt::format("{}{}:{}:{}.{:09}", stamp.empty() ? "" : " ", file.filename().string(),
                       info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

// Empty where the entry holds no model.
std::string stamp_of(const fs::path& path) {
  std::error_code ignored;
  std::string stamp;
  if (fs::is_regular_file(path, ignored)) {
    if (path.extension() == ".gguf") add_stamp(path, stamp);
    return stamp;
  }
  if (!fs::is_regular_file(path / "config.json", ignored)) return stamp;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  if (files.empty()) return stamp;
  std::ranges::sort(files);
  add_stamp(path / "config.json", stamp);
  for (const fs::path& file : files) add_stamp(file, stamp);
  return stamp;
}

}  // namespace

std::vector<TraceEntry> find_checkpoints(const fs::path& directory) {
  std::error_code failed;
  std::vector<TraceEntry> entries;
  for (const auto& entry : fs::directory_iterator(directory, failed)) {
    const std::string name = entry.path().filename().string();
    const std::string stem =
        entry.path().extension() == ".gguf" ? entry.path().stem().string() : name;
    const std::optional<std::int64_t> step = step_of(stem);
    if (!step || name.ends_with(".part")) continue;
    const std::string stamp = stamp_of(entry.path());
    if (!stamp.empty()) entries.push_back({*step, name, stamp, entry.path()});
  }
  if (failed) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: cannot be read: {}", directory.string(), failed.message()));
  }
  if (entries.empty()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{} holds no checkpoints: directories or .gguf files with a step in "
                            "their name, like step-000100",
                            directory.string()));
  }
  std::ranges::sort(entries, {}, [](const TraceEntry& e) { return std::pair(e.step, e.name); });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].step == entries[i - 1].step) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}: {} and {} are both of step {}", directory.string(),
                              entries[i - 1].name, entries[i].name, entries[i].step));
    }
  }
  return entries;
}

}  // namespace plumb
