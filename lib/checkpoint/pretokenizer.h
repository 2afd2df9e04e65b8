// Cuts text into the pieces inside which byte-level BPE may merge.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The pattern of GPT-2: contractions, words, numbers, other symbols, white space; a piece may
/// begin with one space.
inline constexpr std::string_view gpt2_split_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// A chain of splitting steps. Immutable once built; safe to share between threads.
class PreTokenizer {
 public:
  /// Adds a step that makes every match of `pattern` a piece of its own, and every gap between
  /// matches too. `pattern` is written for Oniguruma, as in `tokenizer.json`; it is rewritten for
  /// PCRE2 where the two differ. Throws unsupported, beginning with `where`, for constructs that
  /// cannot be carried over faithfully, and for patterns PCRE2 refuses.
  void add_split(std::string_view pattern, const std::string& where);

  /// Adds a step that puts one space in front of every piece that does not begin with one.
  void add_space_prefix();

  /// The pattern of every step as it was added, in order; nothing for a space-prefix step.
  std::vector<std::optional<std::string>> steps() const;

  /// Calls `sink` with every piece of `text`, in order; pieces are never empty and may point into
  /// memory that is valid only during the call. `text` must be well-formed UTF-8. Throws too_large
  /// when a pattern takes too many steps on this text.
  void split(std::string_view text, const std::function<void(std::string_view)>& sink) const;

 private:
  struct Pattern;
  struct Step {
    std::shared_ptr<const Pattern> pattern;  ///< null: a space-prefix step
  };
  class Run;

  std::vector<Step> steps_;
};

}  // namespace plumb
