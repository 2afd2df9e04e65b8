// A reading position in a GGUF file that never leaves it.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "checkpoint/mapped_file.h"
#include "plumb/error.h"

namespace plumb {

/// Every read is checked against the end of the file; errors begin with its path.
class GgufCursor {
 public:
  explicit GgufCursor(const MappedFile& file) : file_(file) {}

  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file_.path().string(), message));
  }
  [[noreturn]] void unsupported(const std::string& message) const {
    throw Error(ErrorKind::unsupported, fmt::format("{}: {}", file_.path().string(), message));
  }

  const MappedFile& file() const { return file_; }
  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return file_.size() - position_; }

  const std::byte* take(std::uint64_t bytes, std::string_view what) {
    if (bytes > remaining()) {
      bad(fmt::format("is truncated: {} at byte {} needs {} bytes, {} are left", what, position_,
                      bytes, remaining()));
    }
    const std::byte* data = file_.data() + position_;
    position_ += bytes;
    return data;
  }

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what), sizeof value);
    return value;
  }

  std::string_view text(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const std::byte* bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length)};
  }

  std::string name(std::string_view what) {
    const std::uint64_t at = position_;
    const std::string_view name = text(what);
    if (name.size() > longest_name) {
      bad(fmt::format("{} at byte {} has {} bytes, more than the {} allowed", what, at, name.size(),
                      longest_name));
    }
    return std::string(name);
  }

 private:
  static constexpr std::uint64_t longest_name = 65535;

  const MappedFile& file_;
  std::uint64_t position_ = 0;
};

}  // namespace plumb
