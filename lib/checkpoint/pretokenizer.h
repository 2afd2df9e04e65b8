// Cuts text into the pieces inside which tokens may lie.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/aligned_text.h"
#include "checkpoint/text_pattern.h"

namespace plumb {

/// The pattern of GPT-2: contractions, words, numbers, other symbols, white space; a piece may
/// begin with one space.
inline constexpr std::string_view gpt2_split_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// What becomes of the matches of a splitting pattern.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// When a Metaspace step puts a space in front of a piece.
enum class PrependScheme { always, first, never };

/// A chain of splitting steps. Immutable once built; safe to share between threads.
class PreTokenizer {
 public:
  /// Adds a step that cuts at the matches of `pattern` (with `invert`, at the gaps between them).
  void add_split(TextPattern pattern, SplitBehavior behavior = SplitBehavior::isolated,
                 bool invert = false);
  /// The same, every match and every gap a piece of its own; see TextPattern::oniguruma.
  void add_split(std::string_view pattern, const std::string& where);

  /// Adds a step that puts one space in front of every piece that does not begin with one.
  void add_space_prefix();

  /// Adds a step that writes `mark` for every space, puts one in front of a piece that does not
  /// begin with it (by `scheme`; `first` means the piece at the input's beginning), and with `cut`
  /// begins a piece at every mark.
  void add_metaspace(std::string mark, PrependScheme scheme, bool cut, const std::string& where);

  /// Later steps see the text in the byte-level alphabet.
  void enter_byte_alphabet() { in_alphabet_ = true; }

  bool empty() const { return steps_.empty(); }

  /// The pattern of every step as it was added, in order; nothing for one that is no plain
  /// splitting (a space prefix, where all come from GGUF).
  std::vector<std::optional<std::string>> steps() const;

  using Sink = std::function<void(const AlignedView&)>;
  /// Calls `sink` with every piece of `text`, in order; pieces are never empty and may point into
  /// memory that is valid only during the call. `text` must be well-formed UTF-8. Throws too_large
  /// when a pattern takes too many steps on this text, or what is put in front of pieces makes it
  /// longer than `longest_rewritten` says.
  void split(const AlignedView& text, const Sink& sink) const;

 private:
  struct Step {
    enum class Kind { split, space_prefix, metaspace } kind = Kind::split;
    TextPattern pattern = {};
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;
    bool in_alphabet = false;
    std::string mark = {};
    PrependScheme scheme = PrependScheme::never;
    bool cut = false;
  };
  class Run;

  void add(Step step, const std::string& where);

  std::vector<Step> steps_;
  bool in_alphabet_ = false;
};

}  // namespace plumb
