// A regular expression that cuts text.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace plumb {

/// A compiled pattern. Immutable; copies share it, and threads may.
class TextPattern {
 public:
  /// `source` is written for Oniguruma, as in `tokenizer.json`; it is rewritten for PCRE2 where the
  /// two differ. Throws unsupported, beginning with `where`, for constructs that cannot be carried
  /// over faithfully, and for patterns PCRE2 refuses.
  static TextPattern oniguruma(std::string_view source, const std::string& where);
  /// Matches `text` itself.
  static TextPattern literal(std::string_view text, const std::string& where);
  /// `source` is PCRE2's own syntax, from plumb's sources.
  static TextPattern pcre2(std::string_view source);

  /// As it was given.
  const std::string& source() const;

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;  ///< never equal to begin, but at the text's end when nothing matches
  };

  /// A search through well-formed UTF-8, which must outlive it.
  class Search {
   public:
    Search(const TextPattern& pattern, std::string_view text);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    /// The next match that is not empty. Throws too_large when it takes too many steps.
    Match next(std::size_t from);

   private:
    const TextPattern& pattern_;
    std::string_view text_;
    void* data_;
  };

 private:
  struct Compiled;
  static TextPattern compile(std::string_view source, const std::string& translated,
                             const std::string& where);
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace plumb
