// What is done to the text before it is cut into pieces.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/added_tokens.h"
#include "checkpoint/aligned_text.h"
#include "checkpoint/charsmap.h"
#include "checkpoint/normal_form.h"
#include "checkpoint/text_pattern.h"

namespace plumb {

/// A chain of rewriting steps. Immutable once built; safe to share between threads.
class Normalizer {
 public:
  using Step = std::function<AlignedText(const AlignedView&)>;

  void add(Step step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }
  /// Throws too_large when the text becomes longer than `longest_rewritten` says.
  AlignedText apply(const AlignedView& text) const;
  std::string apply(const std::string& text) const;

 private:
  std::vector<Step> steps_;
};

/// Puts `text` in front of a text that is not empty.
Normalizer::Step prepend_step(std::string text);
/// Writes `text` for every match.
Normalizer::Step replace_step(TextPattern pattern, std::string text);
/// Takes white space off the ends.
Normalizer::Step strip_step(bool left, bool right);
/// Leaves out marks.
Normalizer::Step strip_accents_step();
Normalizer::Step normal_form_step(NormalForm form);
/// The charsmap as the `tokenizers` library applies it: to grapheme clusters of fewer than six
/// bytes, else to characters, by the shortest beginning that has a rule.
Normalizer::Step charsmap_step(std::shared_ptr<const Charsmap> charsmap);

/// SentencePiece's own normalisation.
struct SentencePieceRules {
  std::shared_ptr<const Charsmap> charsmap = {};
  AddedTokens kept = {};  ///< found first, and left as they are
  bool dummy_prefix = true;
  bool remove_extra_spaces = true;
  bool escape_spaces = true;
};
Normalizer::Step sentencepiece_step(SentencePieceRules rules);

/// U+2581, which stands for a space.
inline constexpr const char* space_mark = "\xe2\x96\x81";

}  // namespace plumb
