// The segmentation of a piece into tokens whose scores have the largest sum.
#include <algorithm>
#include <cmath>
#include <limits>

#include "checkpoint/token_model.h"
#include "checkpoint/utf8.h"

namespace plumb {
namespace {

constexpr double unknown_penalty = 10.0;  // below the lowest score, as in SentencePiece

class Unigram final : public TokenModel {
 public:
  Unigram(const TokenizerSpec& spec, const TokenIds& ids)
      : fallback_(spec, ids), fuse_(spec.fuse_unknown), single_(spec.single_precision) {
    double lowest = std::numeric_limits<double>::infinity();
    double highest = -std::numeric_limits<double>::infinity();
    const auto is = [](const std::vector<bool>& flags, std::size_t i) { return flags[i]; };
    for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
      const auto& [token, id] = spec.vocab[i];
      if (!spec.in_text.empty() && !is(spec.in_text, i)) continue;
      if (token.empty()) continue;
      const bool preferred = !spec.user_defined.empty() && is(spec.user_defined, i);
      entries_.push_back({token, static_cast<std::int32_t>(id), spec.scores[i], preferred});
      if (preferred) continue;
      lowest = std::min(lowest, spec.scores[i]);
      highest = std::max(highest, spec.scores[i]);
    }
    for (Entry& entry : entries_) {
      if (!entry.preferred) continue;
      const auto length = static_cast<double>(entry.text.size());
      entry.score = (single_ ? static_cast<float>(length * highest) : length * highest) - 0.1;
    }
    if (!std::isfinite(lowest)) lowest = 0;
    unknown_score_ = rounded(lowest - unknown_penalty);
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.text < b.text; });
    std::size_t at = 0;
    for (std::size_t byte = 0; byte < first_.size(); ++byte) {
      const auto letter = [&] { return static_cast<unsigned char>(entries_[at].text.front()); };
      while (at < entries_.size() && letter() < byte) ++at;
      first_[byte] = at;
    }
  }

  void encode(std::string_view piece, Scratch& scratch) const override {
    std::vector<Node> nodes(piece.size() + 1);
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t character = std::max<std::size_t>(code_point(piece, at).bytes, 1);
      const bool has_single = extend(piece, at, character, nodes);
      if (!has_single) {
        offer(nodes[at + character], nodes[at].score + unknown_score_, at, unknown_entry);
      }
      at += character;
    }
    write(piece, nodes, scratch.symbols);
  }

 private:
  struct Entry {
    std::string text;
    std::int32_t id;
    double score;
    bool preferred;
  };
  static constexpr std::size_t unknown_entry = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();
  /// The best way to a place in the piece.
  struct Node {
    double score = 0;
    std::size_t from = nowhere;
    std::size_t entry = unknown_entry;
  };

  double rounded(double score) const { return single_ ? static_cast<float>(score) : score; }

  void offer(Node& node, double score, std::size_t from, std::size_t entry) const {
    if (node.from == nowhere || score > node.score) node = {rounded(score), from, entry};
  }

  /// Offers every token that begins at `at`, the shorter ones first; whether one of them is the
  /// single character there.
  bool extend(std::string_view piece, std::size_t at, std::size_t character,
              std::vector<Node>& nodes) const {
    const auto letter = static_cast<unsigned char>(piece[at]);
    std::size_t low = first_[letter];
    std::size_t high = letter == 255 ? entries_.size() : first_[letter + 1U];
    bool has_single = false;
    for (std::size_t length = 1; low < high; ++length) {
      // Entries from low to high begin with these bytes; the one that is them is the first.
      const Entry& shortest = entries_[low];
      if (shortest.text.size() == length) {
        offer(nodes[at + length], shortest.score + nodes[at].score, at, low);
        has_single = has_single || length == character;
        ++low;
      }
      if (at + length >= piece.size()) break;
      const auto next = static_cast<unsigned char>(piece[at + length]);
      const auto begin = entries_.begin();
      const auto byte = [length](const Entry& entry) {
        return static_cast<unsigned char>(entry.text[length]);
      };
      const auto first = std::partition_point(
          begin + static_cast<std::ptrdiff_t>(low), begin + static_cast<std::ptrdiff_t>(high),
          [&](const Entry& entry) { return byte(entry) < next; });
      const auto last =
          std::partition_point(first, begin + static_cast<std::ptrdiff_t>(high),
                               [&](const Entry& entry) { return byte(entry) == next; });
      low = static_cast<std::size_t>(first - begin);
      high = static_cast<std::size_t>(last - begin);
    }
    return has_single;
  }

  void write(std::string_view piece, const std::vector<Node>& nodes,
             std::vector<Symbol>& out) const {
    std::vector<std::size_t> ends;
    for (std::size_t end = piece.size(); end > 0; end = nodes[end].from) ends.push_back(end);
    out.clear();
    bool after_unknown = false;
    for (std::size_t i = ends.size(); i-- > 0;) {
      const Node& node = nodes[ends[i]];
      const bool unknown = node.entry == unknown_entry;
      const auto bytes = static_cast<std::uint32_t>(ends[i] - node.from);
      if (!unknown) {
        out.push_back({entries_[node.entry].id, bytes});
      } else if (after_unknown && fuse_ && !fallback_.bytes) {
        out.back().bytes += bytes;
      } else {
        fallback_.append(piece.substr(node.from, bytes), out);
      }
      after_unknown = unknown;
    }
  }

  Fallback fallback_;
  bool fuse_;
  bool single_;
  double unknown_score_ = 0;
  std::vector<Entry> entries_;               ///< by text
  std::array<std::size_t, 256> first_ = {};  ///< the first entry whose text begins so or later
};

}  // namespace

std::unique_ptr<const TokenModel> make_unigram(const TokenizerSpec& spec, const TokenIds& ids) {
  return std::make_unique<Unigram>(spec, ids);
}

}  // namespace plumb
