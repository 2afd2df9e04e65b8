// Byte pair encoding over bytes and over characters.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "checkpoint/byte_text.h"
#include "checkpoint/printable.h"
#include "checkpoint/token_model.h"
#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

MergeTable ranked_merges(const TokenizerSpec& spec, const TokenIds& ids) {
  MergeTable table(spec.merges.size());
  for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    const std::string what = fmt::format("merge {}", rank);
    const std::int32_t first = id_of(left, what, spec, ids);
    const std::int32_t second = id_of(right, what, spec, ids);
    table.put(first, second,
              {static_cast<std::int32_t>(rank), id_of(left + right, what, spec, ids)});
  }
  return table;
}

class ByteBpe final : public TokenModel {
 public:
  ByteBpe(const TokenizerSpec& spec, const TokenIds& ids)
      : fallback_(spec, ids), merges_(ranked_merges(spec, ids)), fuse_(spec.fuse_unknown) {
    byte_tokens_.fill(no_token);
    for (const auto& [token, id] : spec.vocab) {
      const std::optional<std::string> bytes = bytes_of(token);
      if (!bytes) continue;
      const auto index = static_cast<std::int32_t>(id);
      if (bytes->size() == 1) byte_tokens_[static_cast<unsigned char>(bytes->front())] = index;
      if (spec.ignore_merges) whole_.emplace(*bytes, index);
    }
  }

  void encode(std::string_view piece, Scratch& scratch) const override {
    std::vector<Symbol>& symbols = scratch.symbols;
    symbols.clear();
    if (!whole_.empty()) {
      if (const auto found = whole_.find(std::string(piece)); found != whole_.end()) {
        return symbols.push_back({found->second, static_cast<std::uint32_t>(piece.size())});
      }
    }
    bool after_unknown = false;
    for (std::size_t at = 0; at < piece.size(); ++at) {
      const std::int32_t id = byte_tokens_[static_cast<unsigned char>(piece[at])];
      if (id != no_token) {
        symbols.push_back({id, 1});
      } else if (after_unknown && fuse_) {
        ++symbols.back().bytes;
      } else {
        fallback_.append(piece.substr(at, 1), symbols);
      }
      after_unknown = id == no_token;
    }
    scratch.merger.merge(merges_, symbols);
  }

 private:
  Fallback fallback_;
  MergeTable merges_;
  bool fuse_;
  std::array<std::int32_t, 256> byte_tokens_ = {};
  TokenIds whole_;  ///< with ignore_merges only
};

/// Characters that are no tokens, but parts of tokens, have ids of their own behind the vocabulary.
class CharacterBpe final : public TokenModel {
 public:
  CharacterBpe(const TokenizerSpec& spec, const TokenIds& ids)
      : fallback_(spec, ids), merges_(0), fuse_(spec.fuse_unknown) {
    for (const auto& [token, id] : spec.vocab) {
      first_part_ = std::max(first_part_, static_cast<std::int32_t>(id) + 1);
    }
    for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
      const auto& [token, id] = spec.vocab[i];
      if (!spec.in_text.empty() && !spec.in_text[i]) continue;
      if (token.empty()) continue;
      const CodePoint point = code_point(token, 0);
      if (point.bytes == token.size()) {
        characters_.emplace(point.value, static_cast<std::int32_t>(id));
      }
      if (spec.ignore_merges) whole_.emplace(token, static_cast<std::int32_t>(id));
    }
    merges_ = spec.model == ModelKind::scored_bpe ? scored_merges(spec) : ranked_merges(spec, ids);
  }

  void encode(std::string_view piece, Scratch& scratch) const override {
    std::vector<Symbol>& symbols = scratch.symbols;
    symbols.clear();
    if (!whole_.empty()) {
      if (const auto found = whole_.find(std::string(piece)); found != whole_.end()) {
        return symbols.push_back({found->second, static_cast<std::uint32_t>(piece.size())});
      }
    }
    bool open = false;  // whether the last symbol is an unknown one that may grow
    bool later = false;
    for (std::size_t at = 0; at < piece.size();) {
      const CodePoint point = code_point(piece, at);
      const std::size_t bytes = std::max<std::size_t>(point.bytes, 1);
      const auto found = point.bytes == 0 ? characters_.end() : characters_.find(point.value);
      if (found != characters_.end()) {
        symbols.push_back({found->second, static_cast<std::uint32_t>(bytes)});
        later = later || found->second >= first_part_;
        open = false;
      } else if (open && fuse_) {
        symbols.back().bytes += static_cast<std::uint32_t>(bytes);
      } else {
        fallback_.append(piece.substr(at, bytes), symbols);
        open = !fallback_.bytes;
      }
      at += bytes;
    }
    scratch.merger.merge(merges_, symbols);
    if (later) replace_parts(piece, symbols);
  }

 private:
  /// Parts that did not merge into a token are unknown after all.
  void replace_parts(std::string_view piece, std::vector<Symbol>& symbols) const {
    std::vector<Symbol> out;
    std::size_t at = 0;
    for (const Symbol& symbol : symbols) {
      const bool unknown = symbol.id >= first_part_ || symbol.id == fallback_.unknown;
      if (!unknown) {
        out.push_back(symbol);
      } else if (fuse_ && !fallback_.bytes && !out.empty() && out.back().id == fallback_.unknown) {
        out.back().bytes += symbol.bytes;
      } else {
        fallback_.append(piece.substr(at, symbol.bytes), out);
      }
      at += symbol.bytes;
    }
    symbols = std::move(out);
  }

  /// Every way to put a token together from two parts, ranked by the token's score.
  MergeTable scored_merges(const TokenizerSpec& spec) {
    constexpr std::size_t longest = 512;  // bytes; ten times the longest in use
    std::set<double, std::greater<>> scores;
    std::unordered_map<std::string_view, std::int32_t> parts;
    for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
      const auto& [token, id] = spec.vocab[i];
      if (!spec.in_text.empty() && !spec.in_text[i]) continue;
      if (token.size() > longest) {
        throw Error(ErrorKind::unsupported, fmt::format("{}: token {} has {} bytes, more than {}",
                                                        spec.where, id, token.size(), longest));
      }
      scores.insert(spec.scores[i]);
      parts.emplace(token, static_cast<std::int32_t>(id));
    }
    std::map<double, std::int32_t> ranks;
    for (const double score : scores) ranks.emplace(score, static_cast<std::int32_t>(ranks.size()));

    std::int32_t next = first_part_;
    for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
      if (!spec.in_text.empty() && !spec.in_text[i]) continue;
      const std::string_view token = spec.vocab[i].first;
      for (std::size_t at = 0; at < token.size();) {
        const CodePoint point = code_point(token, at);
        const std::size_t bytes = std::max<std::size_t>(point.bytes, 1);
        const std::string_view part = token.substr(at, bytes);
        if (point.bytes != 0 && parts.emplace(part, next).second) {
          characters_.emplace(point.value, next++);
        }
        at += bytes;
      }
    }

    std::vector<std::pair<std::pair<std::int32_t, std::int32_t>, Merge>> merges;
    for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
      const auto& [token, id] = spec.vocab[i];
      if (!spec.in_text.empty() && !spec.in_text[i]) continue;
      const std::string_view whole = token;
      for (std::size_t at = 1; at < whole.size(); ++at) {
        const auto left = parts.find(whole.substr(0, at));
        if (left == parts.end()) continue;
        const auto right = parts.find(whole.substr(at));
        if (right == parts.end()) continue;
        merges.push_back({{left->second, right->second},
                          {ranks.at(spec.scores[i]), static_cast<std::int32_t>(id)}});
      }
    }
    MergeTable table(merges.size());
    for (const auto& [pair, merge] : merges) table.put(pair.first, pair.second, merge);
    return table;
  }

  Fallback fallback_;
  MergeTable merges_;
  bool fuse_;
  std::int32_t first_part_ = 0;
  std::unordered_map<std::uint32_t, std::int32_t> characters_;
  TokenIds whole_;  ///< with ignore_merges only
};

}  // namespace

std::unique_ptr<const TokenModel> make_byte_bpe(const TokenizerSpec& spec, const TokenIds& ids) {
  return std::make_unique<ByteBpe>(spec, ids);
}

std::unique_ptr<const TokenModel> make_character_bpe(const TokenizerSpec& spec,
                                                     const TokenIds& ids) {
  return std::make_unique<CharacterBpe>(spec, ids);
}

}  // namespace plumb
