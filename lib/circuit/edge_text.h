// What the readers and writers of edge circuits share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "plumb/edge_circuit.h"

namespace plumb {

/// As a JSON string, with its quotes; bytes that are not UTF-8 replaced.
std::string json_text(std::string_view text);

/// The model's edges, from numbers that a file of `bytes` bytes claims. Throws bad_file, beginning
/// with `where`, if there is no such model or the edges are out of proportion to the file.
EdgeSpace claimed_space(std::int64_t layers, std::int64_t heads, std::int64_t kv_heads,
                        bool parallel, std::size_t bytes, const std::string& where);

/// Puts edges into a circuit by name, each once.
class EdgeFiller {
 public:
  EdgeFiller(EdgeCircuit& circuit, std::string where);
  /// Throws bad_file if there is no such edge, it was put before, or the score is not finite.
  void put(std::string_view name, double score, bool in);
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  EdgeCircuit& circuit_;
  std::string where_;
  std::vector<std::uint8_t> met_;
};

}  // namespace plumb
