// A file's bytes, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace plumb {

/// The pages are read when they are touched. A file that another process shortens meanwhile is
/// caught by `check_unchanged`, which readers call before they touch pages.
class MappedFile {
 public:
  /// Throws bad_file when the path is not a regular file that can be read.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  std::string_view text() const;
  const std::filesystem::path& path() const { return path_; }

  /// Throws bad_file when the file no longer has the size it was mapped with.
  void check_unchanged() const;

  /// Takes the pages that hold these bytes of the mapping out of this process's memory; touching
  /// them again maps them again.
  void release(const std::byte* from, std::uint64_t bytes) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
};

/// The whole of a small file. Throws bad_file as MappedFile does, and when it exceeds `limit`
/// bytes.
std::string read_text(const std::filesystem::path& path, std::uint64_t limit);

}  // namespace plumb
