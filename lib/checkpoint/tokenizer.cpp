#include "plumb/tokenizer.h"

#include <fmt/format.h>

#include <array>
#include <functional>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "checkpoint/added_tokens.h"
#include "checkpoint/bpe.h"
#include "checkpoint/byte_text.h"
#include "checkpoint/pretokenizer.h"
#include "checkpoint/printable.h"
#include "checkpoint/tokenizer_files.h"
#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void bad(const std::string& message) { throw Error(ErrorKind::bad_file, message); }

}  // namespace

struct Tokenizer::Impl {
  struct Entry {
    std::string bytes = {};
    bool present = false;
    bool special = false;
  };

  explicit Impl(const TokenizerSpec& spec)
      : where(spec.where),
        pretokenizer(spec.pretokenizer),
        merges(spec.merges.size()),
        nfc(spec.nfc),
        fuse_unknown(spec.fuse_unknown),
        bos(spec.bos),
        eos(spec.eos),
        adds_bos(spec.adds_bos) {
    read_vocab(spec);
    read_merges(spec);
    read_added(spec);
    ids_ = {};
    for (const auto& id : {bos, eos}) {
      if (id && !holds(*id)) {
        bad(fmt::format("{}: names {} as a BOS or EOS token, but has no token of that id", where,
                        *id));
      }
    }
  }

  bool holds(std::int64_t id) const {
    return id >= 0 && id < static_cast<std::int64_t>(entries.size()) &&
           entries[static_cast<std::size_t>(id)].present;
  }

  void encode_piece(std::string_view piece, Merger& merger, std::vector<std::int32_t>& tokens,
                    std::vector<std::int64_t>& out) const;

  std::string where;
  PreTokenizer pretokenizer;
  MergeTable merges;
  std::vector<Entry> entries;
  std::array<std::int32_t, 256> byte_tokens = {};
  std::unordered_map<std::string, std::int32_t> whole_pieces;  ///< with ignore_merges only
  AddedTokens before_normalisation;
  AddedTokens after_normalisation;
  std::int32_t unknown = no_token;
  bool nfc;
  bool fuse_unknown;
  std::optional<std::int64_t> bos;
  std::optional<std::int64_t> eos;
  bool adds_bos;

 private:
  Entry& place(std::int64_t id) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= entries.size()) entries.resize(index + 1);
    return entries[index];
  }

  void read_vocab(const TokenizerSpec& spec) {
    byte_tokens.fill(no_token);
    for (const auto& [token, id] : spec.vocab) {
      if (!ids_.emplace(token, static_cast<std::int32_t>(id)).second) {
        bad(fmt::format("{}: token {} appears twice in the vocabulary", where, printable(token)));
      }
      Entry& entry = place(id);
      if (entry.present) bad(fmt::format("{}: two tokens have the id {}", where, id));
      entry.present = true;
      const std::optional<std::string> bytes = bytes_of(token);
      entry.bytes = bytes.value_or(token);
      if (!bytes) continue;
      const auto index = static_cast<std::int32_t>(id);
      if (bytes->size() == 1) byte_tokens[static_cast<unsigned char>(bytes->front())] = index;
      if (spec.ignore_merges) whole_pieces.emplace(*bytes, index);
    }
    if (spec.unknown) unknown = id_of(*spec.unknown, "unk_token");
  }

  void read_merges(const TokenizerSpec& spec) {
    for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
      const auto& [left, right] = spec.merges[rank];
      const std::string what = fmt::format("merge {}", rank);
      const std::int32_t first = id_of(left, what);
      const std::int32_t second = id_of(right, what);
      merges.put(first, second, {static_cast<std::int32_t>(rank), id_of(left + right, what)});
    }
  }

  void read_added(const TokenizerSpec& spec) {
    for (const AddedToken& token : spec.added) {
      Entry& entry = place(token.id);
      const auto known = ids_.find(token.content);
      const bool elsewhere = known != ids_.end() && known->second != token.id;
      if (elsewhere || (known == ids_.end() && entry.present)) {
        bad(fmt::format("{}: added token {} has the id {}, which contradicts the vocabulary", where,
                        printable(token.content), token.id));
      }
      ids_.emplace(token.content, static_cast<std::int32_t>(token.id));
      entry = {token.content, true, token.special};
      const auto id = static_cast<std::int32_t>(token.id);
      if (token.normalized && nfc) {
        after_normalisation.add(to_nfc(token.content), id);
      } else if (token.normalized) {
        after_normalisation.add(token.content, id);
      } else {
        before_normalisation.add(token.content, id);
      }
    }
  }

  std::int32_t id_of(const std::string& token, const std::string& what) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) {
      bad(fmt::format("{}: {} names the token {}, which is not in the vocabulary", where, what,
                      printable(token)));
    }
    return found->second;
  }

  std::unordered_map<std::string, std::int32_t> ids_;  ///< only while building
};

void Tokenizer::Impl::encode_piece(std::string_view piece, Merger& merger,
                                   std::vector<std::int32_t>& tokens,
                                   std::vector<std::int64_t>& out) const {
  if (!whole_pieces.empty()) {
    const auto whole = whole_pieces.find(std::string(piece));
    if (whole != whole_pieces.end()) return out.push_back(whole->second);
  }
  tokens.clear();
  bool after_unknown = false;
  for (const char c : piece) {
    const std::int32_t id = byte_tokens[static_cast<unsigned char>(c)];
    if (id == no_token && unknown == no_token) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("the text holds the byte 0x{:02x}, for which the tokenizer of {} has "
                              "no token; leave it out",
                              static_cast<unsigned char>(c), where));
    }
    if (id != no_token || !after_unknown || !fuse_unknown) {
      tokens.push_back(id == no_token ? unknown : id);
    }
    after_unknown = id == no_token;
  }
  merger.merge(tokens);
  out.insert(out.end(), tokens.begin(), tokens.end());
}

Tokenizer Tokenizer::open(const std::filesystem::path& checkpoint) {
  std::error_code error;
  const bool directory = std::filesystem::is_directory(checkpoint, error);
  return Tokenizer(std::make_shared<const Impl>(directory ? read_tokenizer_directory(checkpoint)
                                                          : read_tokenizer_gguf(checkpoint)));
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text) const {
  const Impl& impl = *impl_;
  Merger merger(impl.merges);
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> out;
  const std::function<void(std::string_view)> piece = [&](std::string_view part) {
    impl.encode_piece(part, merger, tokens, out);
  };
  const auto token = [&](std::int32_t id) { out.push_back(id); };
  // An ill-formed byte is a piece of its own; the stretches around it are split as if it were an
  // end of the text.
  const auto plain = [&](std::string_view part) {
    for_each_utf8_stretch(part, [&](std::string_view stretch, bool well_formed) {
      well_formed ? impl.pretokenizer.split(stretch, piece) : piece(stretch);
    });
  };
  impl.before_normalisation.cut(text, token, [&](std::string_view part) {
    if (impl.nfc) {
      impl.after_normalisation.cut(to_nfc(part), token, plain);
    } else {
      impl.after_normalisation.cut(part, token, plain);
    }
  });
  return out;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids) const {
  std::string out;
  for (const std::int64_t id : ids) {
    if (!impl_->holds(id)) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("{} is not a token id of {}, which has the ids 0 to {}", id,
                              impl_->where, size() - 1));
    }
    out += impl_->entries[static_cast<std::size_t>(id)].bytes;
  }
  return out;
}

std::string Tokenizer::show(std::int64_t id) const {
  if (!impl_->holds(id)) return fmt::format("<{}>", id);
  return legible(impl_->entries[static_cast<std::size_t>(id)].bytes);
}

std::int64_t Tokenizer::size() const { return static_cast<std::int64_t>(impl_->entries.size()); }
std::optional<std::int64_t> Tokenizer::bos() const { return impl_->bos; }
std::optional<std::int64_t> Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::adds_bos() const { return impl_->adds_bos; }

bool Tokenizer::is_special(std::int64_t id) const {
  return impl_->holds(id) && impl_->entries[static_cast<std::size_t>(id)].special;
}

}  // namespace plumb
