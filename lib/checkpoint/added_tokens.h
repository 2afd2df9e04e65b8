// Tokens that are found in the text as they are written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace plumb {

constexpr std::int32_t no_token = -1;

/// Added tokens by their bytes; finds the longest that begins at a place.
class AddedTokens {
 public:
  void add(std::string_view content, std::int32_t id) {
    std::size_t node = 0;
    for (const char c : content) {
      const auto [found, fresh] = nodes_[node].next.try_emplace(c, nodes_.size());
      node = found->second;
      if (fresh) nodes_.emplace_back();
    }
    if (!content.empty()) nodes_[node].id = id;
    if (!content.empty()) first_[static_cast<unsigned char>(content.front())] = true;
  }

  /// Cuts `text` at its added tokens, leftmost and longest first: `token(id)` for each of them,
  /// `rest(part)` for what lies between.
  template <typename Token, typename Rest>
  void cut(std::string_view text, Token&& token, Rest&& rest) const {
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto [id, bytes] = longest(text, at);
      if (bytes == 0) {
        ++at;
        continue;
      }
      if (at > begin) rest(text.substr(begin, at - begin));
      token(id);
      begin = at += bytes;
    }
    if (begin < text.size()) rest(text.substr(begin));
  }

 private:
  struct Node {
    std::map<char, std::size_t> next = {};
    std::int32_t id = no_token;
  };

  std::pair<std::int32_t, std::size_t> longest(std::string_view text, std::size_t at) const {
    std::pair<std::int32_t, std::size_t> best{no_token, 0};
    if (!first_[static_cast<unsigned char>(text[at])]) return best;
    std::size_t node = 0;
    for (std::size_t end = at; end < text.size();) {
      const auto found = nodes_[node].next.find(text[end]);
      if (found == nodes_[node].next.end()) break;
      node = found->second;
      ++end;
      if (nodes_[node].id != no_token) best = {nodes_[node].id, end - at};
    }
    return best;
  }

  std::vector<Node> nodes_ = {Node{}};
  std::array<bool, 256> first_ = {};
};

}  // namespace plumb
