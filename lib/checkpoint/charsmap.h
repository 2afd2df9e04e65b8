// SentencePiece's table of replacements, a trie over UTF-8 and the texts it points to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A "precompiled charsmap". Immutable; every step through it is checked.
class Charsmap {
 public:
  struct Rule {
    std::size_t bytes = 0;  ///< how much of the text it replaces
    std::string_view text = {};
  };

  /// Throws bad_file, beginning with `where`, when the sizes it names do not fit. Empty: no rules.
  Charsmap(std::string_view blob, const std::string& where);

  /// The rule for the longest, or the shortest, of the beginnings of `text` that have one.
  std::optional<Rule> longest(std::string_view text) const { return find(text, true); }
  std::optional<Rule> shortest(std::string_view text) const { return find(text, false); }

 private:
  std::optional<Rule> find(std::string_view text, bool longest) const;

  std::vector<std::uint32_t> units_;
  std::string texts_;
};

}  // namespace plumb
