#include "checkpoint/added_tokens.h"

#include <algorithm>

#include "checkpoint/characters.h"
#include "checkpoint/utf8.h"

namespace plumb {
namespace {

/// The code point that ends before `end`.
CodePoint point_before(std::string_view text, std::size_t end) {
  for (std::size_t bytes = 1; bytes <= std::min<std::size_t>(4, end); ++bytes) {
    const CodePoint point = code_point(text, end - bytes);
    if (point.bytes == bytes) return point;
  }
  return {};
}

bool is_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const CodePoint before = point_before(text, begin);
  const CodePoint after = end < text.size() ? code_point(text, end) : CodePoint{};
  return (before.bytes == 0 || !is_word(before.value)) &&
         (after.bytes == 0 || !is_word(after.value));
}

std::size_t left_of_spaces(std::string_view text, std::size_t begin, std::size_t limit) {
  while (begin > limit) {
    const CodePoint point = point_before(text, begin);
    if (point.bytes == 0 || !is_white_space(point.value)) break;
    begin -= point.bytes;
  }
  return std::max(begin, limit);
}

std::size_t right_of_spaces(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const CodePoint point = code_point(text, end);
    if (point.bytes == 0 || !is_white_space(point.value)) break;
    end += point.bytes;
  }
  return end;
}

}  // namespace

void AddedTokens::add(std::string_view content, std::int32_t id, AddedRules rules) {
  if (content.empty()) return;
  std::size_t node = 0;
  for (const char c : content) {
    const auto [found, fresh] = nodes_[node].next.try_emplace(c, nodes_.size());
    node = found->second;
    if (fresh) nodes_.emplace_back();
  }
  if (nodes_[node].id == no_token) {
    nodes_[node].id = id;
    nodes_[node].rules = rules;
  }
  first_[static_cast<unsigned char>(content.front())] = true;
}

AddedTokens::Found AddedTokens::longest(std::string_view text, std::size_t at) const {
  Found best;
  if (!first_[static_cast<unsigned char>(text[at])]) return best;
  std::size_t node = 0;
  for (std::size_t end = at; end < text.size();) {
    const auto found = nodes_[node].next.find(text[end]);
    if (found == nodes_[node].next.end()) break;
    node = found->second;
    ++end;
    if (nodes_[node].id != no_token) best = {end - at, nodes_[node].id, nodes_[node].rules};
  }
  return best;
}

void AddedTokens::cut(std::string_view text, const Token& token, const Rest& rest) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Found found = longest(text, at);
    if (found.bytes == 0) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + found.bytes;
    at = end;
    // One that is not alone is plain text, and nothing shorter inside it is looked for.
    if (found.rules.single_word && !is_alone(text, begin, end)) continue;
    if (found.rules.takes_left) begin = left_of_spaces(text, begin, done);
    if (found.rules.takes_right) end = right_of_spaces(text, end);
    if (begin > done) rest(done, begin);
    token(found.id, begin, end);
    done = end;
  }
  if (done < text.size()) rest(done, text.size());
}

}  // namespace plumb
