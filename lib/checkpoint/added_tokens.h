// Tokens that are found in the text as they are written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

namespace plumb {

constexpr std::int32_t no_token = -1;

/// How an added token is found: alone as a word, taking the white space beside it along.
struct AddedRules {
  bool single_word = false;
  bool takes_left = false;
  bool takes_right = false;
};

/// Added tokens by their bytes; finds the longest that begins at a place.
class AddedTokens {
 public:
  struct Found {
    std::size_t bytes = 0;  ///< 0: no token begins there
    std::int32_t id = no_token;
    AddedRules rules = {};
  };

  /// Of two with the same bytes, the first is the one that is found.
  void add(std::string_view content, std::int32_t id, AddedRules rules = {});

  bool empty() const { return nodes_.size() == 1; }

  /// The longest token that begins at `at`.
  Found longest(std::string_view text, std::size_t at) const;

  using Token = std::function<void(std::int32_t id, std::size_t begin, std::size_t end)>;
  using Rest = std::function<void(std::size_t begin, std::size_t end)>;
  /// Cuts `text` at its added tokens, leftmost and longest first, and calls `token` for each of
  /// them and `rest` for what lies between.
  void cut(std::string_view text, const Token& token, const Rest& rest) const;

 private:
  struct Node {
    std::map<char, std::size_t> next = {};
    std::int32_t id = no_token;
    AddedRules rules = {};
  };

  std::vector<Node> nodes_ = {Node{}};
  std::array<bool, 256> first_ = {};
};

}  // namespace plumb
