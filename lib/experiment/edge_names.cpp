#include "plumb/edge_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/random.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Whether the text fits the pattern, in which "*" stands for any characters.
bool fits(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last one met, and where what it took ends
  std::size_t taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

std::vector<std::int64_t> edges_named(const EdgeSpace& space, std::string_view words) {
  std::vector<std::int64_t> found;
  for (std::size_t at = 0; at < words.size();) {
    const std::size_t end = std::min(words.find_first_of(" ,\t\n", at), words.size());
    const std::string_view word = words.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    const std::size_t arrow = word.find("->");
    const std::size_t before = found.size();
    if (arrow != std::string_view::npos) {
      std::vector<std::int64_t> senders;
      for (std::int64_t s = 0; s < space.senders(); ++s) {
        if (fits(word.substr(0, arrow), space.sender_name(s))) senders.push_back(s);
      }
      for (std::int64_t r = 0; r < space.receivers(); ++r) {
        if (!fits(word.substr(arrow + 2), space.receiver_name(r))) continue;
        for (const std::int64_t sender : senders) {
          if (sender < space.seen_by(r)) found.push_back(space.first_edge(r) + sender);
        }
      }
    }
    if (found.size() == before)
      throw Error(
          ErrorKind::bad_argument,
          fmt::format("the model has no edge '{}'; they are named like a0.h1->a3.h4<q>, and "
                      "* stands for any characters",
                      word));
  }
  std::ranges::sort(found);
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

std::vector<std::int64_t> sample_of(std::vector<std::int64_t> edges, std::int64_t count,
                                    std::uint64_t seed) {
  if (count < 1) throw Error(ErrorKind::bad_argument, fmt::format("{} edges are no sample", count));
  const std::vector<std::int64_t> order = Random(seed).permutation(std::ssize(edges));
  std::vector<std::int64_t> drawn;
  for (std::size_t i = 0; i < order.size() && std::ssize(drawn) < count; ++i)
    drawn.push_back(edges[static_cast<std::size_t>(order[i])]);
  std::ranges::sort(drawn);
  return drawn;
}

}  // namespace plumb
