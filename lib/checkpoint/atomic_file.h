// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>

namespace plumb {

/// Collects bytes beside the final place; `commit` flushes them to the disk and renames. Without
/// `commit` nothing is left. Every function throws bad_file with the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);

  /// Everything is on the disk when this returns; still under the temporary name.
  void flush();
  void commit();

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

}  // namespace plumb
