// The metadata of one architecture, whose keys begin with its name.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_split.h"

namespace plumb {

/// Remembers which keys were asked for, so that one which nobody understood can be refused.
/// Names are without the architecture: "block_count". A list of equal values, one a layer, reads as
/// that value; one of different values is unsupported.
class GgufMetadata {
 public:
  explicit GgufMetadata(const GgufModel& model);

  std::string key(std::string_view name) const;
  bool has(std::string_view name) const;
  const StoredTensor* tensor(std::string_view name) const;
  bool has_tensor(std::string_view name) const { return tensor(name) != nullptr; }

  int count(std::string_view name) const;  ///< at least 1
  int count(std::string_view name, int fallback) const;
  int count_or_none(std::string_view name) const;  ///< 0 where the key is absent or 0
  double number(std::string_view name) const;
  double number(std::string_view name, double fallback) const;
  bool flag(std::string_view name, bool fallback) const;
  std::string_view text(std::string_view name, std::string_view fallback) const;
  /// A list of one flag a layer; empty where the key is absent or a number.
  std::vector<bool> flags(std::string_view name, int layers) const;

  /// Throws unsupported naming a key of the architecture that nobody asked for, unless it is known
  /// to be of no consequence or says nothing: zero, false, empty.
  void refuse_unread() const;

  [[noreturn]] void bad(const std::string& message) const;
  [[noreturn]] void unsupported(const std::string& message) const;
  [[noreturn]] void unhandled(std::string_view name) const;  ///< unsupported: the key

  const std::string& architecture() const { return architecture_; }

 private:
  const GgufFile& file() const { return model_.head; }
  const GgufValue* find(std::string_view name) const;
  std::int64_t integer(std::string_view name, std::int64_t low) const;

  const GgufModel& model_;
  std::string architecture_;
  mutable std::set<std::string, std::less<>> read_;
};

/// Fills in the rotation from `rope.*` and the tables among the tensors; d_head, context and the
/// layers of `config` are known.
void read_gguf_rotation(const GgufMetadata& metadata, ModelConfig& config);

}  // namespace plumb
