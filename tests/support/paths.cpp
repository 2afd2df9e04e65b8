#include "support/paths.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

struct Scratch {
  fs::path path;

  Scratch() {
    std::string name = (fs::temp_directory_path() / "plumb_test_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no scratch directory: " + name);
    path = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

fs::path source_dir() { return PLUMB_SOURCE_DIR; }

fs::path shared_dir() {
  if (const char* given = std::getenv("PLUMB_SHARED")) return given;
  return source_dir().parent_path() / "shared";
}

fs::path model_file(const std::string& name) {
  if (const char* given = std::getenv("PLUMB_MODELS")) return fs::path(given) / name;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
    return fs::path(cache) / "plumb" / "models" / name;
  }
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache" / "plumb" / "models" / name;
}

fs::path scratch_dir() {
  static const Scratch root;
  static int made = 0;
  const fs::path fresh = root.path / std::to_string(made++);
  fs::create_directory(fresh);
  return fresh;
}

}  // namespace plumb::test
