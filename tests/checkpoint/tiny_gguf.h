// A tiny Llama in a GGUF file, as a start for files with something wrong or special in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/files.h"

namespace plumb::test {

/// Layers of width 4, one head of four channels, in F32; without MLPs where they are not dense.
struct TinyLlama {
  std::string architecture;
  GgufBuilder build;

  explicit TinyLlama(std::string name = "llama", std::uint32_t layers = 1, bool dense = true);
  std::string key(const std::string& field) const { return architecture + "." + field; }
  /// Row i begins with i.
  void matrix(const std::string& name, std::uint64_t rows);
  void vector(const std::string& name);
  std::filesystem::path write(const std::string& file_name = "tiny.gguf") const;
};

}  // namespace plumb::test
