// Small checkpoint files made byte by byte, and the errors expected of damaged ones.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/error.h"

namespace plumb::test {

std::string read_bytes(const std::filesystem::path& path);
void write_bytes(const std::filesystem::path& path, std::string_view bytes);

/// The value's little-endian bytes.
template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string floats(const std::vector<float>& values);

/// Header length, header, data.
std::string safetensors(std::string_view header, std::string_view data);

struct PlainTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

/// A valid file of these tensors, in this order.
std::string safetensors(const std::vector<PlainTensor>& tensors);

/// Builds GGUF files; every piece can be made wrong.
class GgufBuilder {
 public:
  static std::string text(std::string_view value);

  std::uint32_t magic = 0x46554747;
  std::uint32_t version = 3;
  std::int64_t extra_tensors = 0;  ///< added to the count in the header
  std::int64_t extra_metadata = 0;
  std::uint64_t alignment = 32;  ///< of what `bytes` lays out, whatever the metadata say

  /// `payload` follows the type number.
  GgufBuilder& raw(std::string_view key, std::uint32_t type, std::string_view payload);
  GgufBuilder& u32(std::string_view key, std::uint32_t value);
  GgufBuilder& f32(std::string_view key, float value);
  GgufBuilder& string(std::string_view key, std::string_view value);
  /// Dimensions fastest first, as in the file; placed after the tensor before it.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& dims,
                      std::uint32_t type, std::string_view data);
  GgufBuilder& tensor_at(std::string_view name, const std::vector<std::uint64_t>& dims,
                         std::uint32_t type, std::uint64_t offset);

  std::string bytes() const;

 private:
  std::uint64_t metadata_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::string metadata_;
  std::string tensors_;
  std::string data_;
};

/// `action` throws an Error of `kind` whose message is one line and holds every one of `parts`.
void expect_error(const std::function<void()>& action, ErrorKind kind,
                  const std::vector<std::string>& parts);

}  // namespace plumb::test
