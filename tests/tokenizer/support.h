// Tokenizer files for tests: bundled, changed, or written from nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/error.h"
#include "plumb/tokenizer.h"

namespace plumb::test {

/// Where make_tokenizer_goldens.py put the tiny tokenizers and golden.json.
std::filesystem::path tiny_tokenizers();

nlohmann::json read_json(const std::filesystem::path& path);

/// A directory that holds these files, by name.
std::filesystem::path directory_with(
    const std::vector<std::pair<std::string, nlohmann::json>>& files);

/// A directory with this text as its tokenizer.json.
std::filesystem::path directory_with_text(std::string_view tokenizer_json);

/// A tokenizer of all 256 bytes (ids 0 to 255) and the tokens "ab" (256) and "abc" (257), to be
/// changed by tests.
nlohmann::json small_tokenizer();

/// Metadata of a GGUF file without tensors.
class GgufWriter {
 public:
  void text(std::string_view key, std::string_view value);
  void flag(std::string_view key, bool value);
  void u32(std::string_view key, std::uint32_t value);
  void texts(std::string_view key, const std::vector<std::string>& values);
  void i32s(std::string_view key, const std::vector<std::int32_t>& values);
  std::filesystem::path write() const;

 private:
  void key(std::string_view name, std::uint32_t type);
  void string(std::string_view value);
  template <typename T>
  void number(T value);

  std::string body_;
  std::uint64_t keys_ = 0;
};

/// The GGUF form of a tiny tokenizer directory.
GgufWriter gguf_of(const nlohmann::json& tokenizer_json, std::string_view pre);

/// The error that opening throws; a test failure when it throws none.
struct Refusal {
  ErrorKind kind = ErrorKind::internal;
  std::string message = {};
};
Refusal refusal_of(const std::filesystem::path& checkpoint);

}  // namespace plumb::test
