// The GGUF container: metadata and tensors, little-endian, versions 2 and 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/stored.h"

namespace plumb {

/// Types of metadata values, numbered as in the file.
enum class GgufType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

/// A metadata value: where it lies in the mapped file. Every bound was checked on opening.
struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;  ///< of an array
  std::uint64_t count = 1;          ///< elements of an array, bytes of a string
  const std::byte* data = nullptr;  ///< the scalar, the string's bytes, the first element
};

/// An opened GGUF file. Nothing proportional to the arrays is allocated until they are asked for.
/// Getters throw bad_file naming the key when it is missing or of another type.
class GgufFile {
 public:
  /// Throws bad_file, naming the key, tensor or byte, when the file is damaged or truncated;
  /// unsupported on a version, byte order or tensor type that plumb does not know.
  explicit GgufFile(const std::filesystem::path& path);

  const MappedFile& file() const { return *file_; }
  std::shared_ptr<const MappedFile> shared_file() const { return file_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  ///< sorted by name
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }

  bool has(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high) const;
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string_view text(std::string_view key) const;
  std::string_view text(std::string_view key, std::string_view fallback) const;
  std::vector<std::string_view> texts(std::string_view key) const;  ///< views into the file
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;

 private:
  const GgufValue& needed(std::string_view key) const;
  const GgufValue& array(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, const std::string& expected) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace plumb
