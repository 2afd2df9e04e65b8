#include "plumb/tokenizer.h"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "checkpoint/added_tokens.h"
#include "checkpoint/aligned_text.h"
#include "checkpoint/byte_text.h"
#include "checkpoint/printable.h"
#include "checkpoint/token_model.h"
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

  explicit Impl(TokenizerSpec spec)
      : where(std::move(spec.where)),
        normalizer(std::move(spec.normalizer)),
        pretokenizer(std::move(spec.pretokenizer)),
        decoding(std::move(spec.decoding)),
        bos(spec.bos),
        eos(spec.eos),
        adds_bos(spec.adds_bos),
        adds_eos(spec.adds_eos) {
    spec.where = where;
    TokenIds ids = read_vocab(spec);
    model = make_model(spec, ids);
    read_added(spec, ids);
    for (const std::int64_t id : spec.special_ids) place(id).special = true;
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

  std::string where;
  Normalizer normalizer;
  PreTokenizer pretokenizer;
  Decoding decoding;
  std::unique_ptr<const TokenModel> model;
  std::vector<Entry> entries;
  AddedTokens before_normalisation;
  AddedTokens after_normalisation;
  std::optional<std::int64_t> bos;
  std::optional<std::int64_t> eos;
  bool adds_bos;
  bool adds_eos;

 private:
  Entry& place(std::int64_t id) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= entries.size()) entries.resize(index + 1);
    return entries[index];
  }

  TokenIds read_vocab(const TokenizerSpec& spec) {
    TokenIds ids;
    ids.reserve(spec.vocab.size());
    for (const auto& [token, id] : spec.vocab) {
      if (!ids.emplace(token, static_cast<std::int32_t>(id)).second) {
        bad(fmt::format("{}: token {} appears twice in the vocabulary", where, printable(token)));
      }
      Entry& entry = place(id);
      if (entry.present) bad(fmt::format("{}: two tokens have the id {}", where, id));
      entry.present = true;
      entry.bytes =
          spec.model == ModelKind::byte_bpe ? bytes_of(token).value_or(token) : decoded(token);
    }
    return ids;
  }

  static std::unique_ptr<const TokenModel> make_model(const TokenizerSpec& spec,
                                                      const TokenIds& ids) {
    switch (spec.model) {
      case ModelKind::byte_bpe: return make_byte_bpe(spec, ids);
      case ModelKind::character_bpe:
      case ModelKind::scored_bpe: return make_character_bpe(spec, ids);
      case ModelKind::unigram: return make_unigram(spec, ids);
    }
    throw Error(ErrorKind::internal, "a tokenizer of no kind");
  }

  void read_added(const TokenizerSpec& spec, TokenIds& ids) {
    for (const AddedToken& token : spec.added) {
      Entry& entry = place(token.id);
      const auto known = ids.find(token.content);
      const bool elsewhere = known != ids.end() && known->second != token.id;
      if (elsewhere || (known == ids.end() && entry.present)) {
        bad(fmt::format("{}: added token {} has the id {}, which contradicts the vocabulary", where,
                        printable(token.content), token.id));
      }
      ids.emplace(token.content, static_cast<std::int32_t>(token.id));
      entry = {with_replacements(token.content), true, token.special};
    }
    // Of two that are the same after normalisation, a special one is found.
    for (const bool special : {true, false}) {
      for (const AddedToken& token : spec.added) {
        if (token.special != special) continue;
        const auto id = static_cast<std::int32_t>(token.id);
        if (!token.normalized) {
          before_normalisation.add(token.content, id, token.rules);
        } else {
          after_normalisation.add(token.exact ? token.content : normalizer.apply(token.content), id,
                                  token.rules);
        }
      }
    }
  }

  std::string with_replacements(const std::string& token) const {
    const std::size_t most = 16 * token.size() + 256;
    std::string text = token;
    for (const auto& [pattern, content] : decoding.replace) {
      std::string out;
      std::size_t done = 0;
      for (std::size_t at = 0; (at = text.find(pattern, done)) != std::string::npos;) {
        out.append(text, done, at - done).append(content);
        done = at + pattern.size();
        // Each of the replacements that a file chains may multiply what the one before it left.
        if (out.size() > most) refuse_decoded(token, most);
      }
      text = out.append(text, done);
    }
    return text;
  }

  [[noreturn]] void refuse_decoded(const std::string& token, std::size_t most) const {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: the decoder makes more than {} bytes of the token {}", where, most,
                            printable(token)));
  }

  std::string decoded(const std::string& token) const {
    std::string text = with_replacements(token);
    const std::optional<char> byte = byte_named(text);
    return decoding.byte_tokens && byte ? std::string(1, *byte) : text;
  }
};

namespace {

/// One call of encode: tokens and where in the input they lie, in order.
class Encoding {
 public:
  Encoding(const Tokenizer::Impl& impl, std::string_view text, bool tracked)
      : impl_(impl), text_(text), tracked_(tracked) {
    if (text.size() > most_bytes) {
      throw Error(ErrorKind::too_large,
                  fmt::format("a text of {} bytes is more than the {} that can be encoded at once",
                              text.size(), most_bytes));
    }
    impl.before_normalisation.cut(
        text,
        [&](std::int32_t id, std::size_t begin, std::size_t end) {
          put(id, {begin, end});
        },
        [&](std::size_t begin, std::size_t end) { part(begin, end); });
  }

  std::vector<TokenSpan> tokens = {};

 private:
  static constexpr std::size_t most_bytes = std::size_t{1} << 31U;

  void put(std::int32_t id, const Span& span) { tokens.push_back({id, span.begin, span.end}); }

  void part(std::size_t begin, std::size_t end) {
    AlignedView view{.bytes = text_.substr(begin, end - begin), .base = begin, .tracked = tracked_};
    AlignedText normalised;
    if (!impl_.normalizer.empty()) {
      normalised = impl_.normalizer.apply(view);
      view = normalised.view();
    }
    impl_.after_normalisation.cut(
        view.bytes,
        [&](std::int32_t id, std::size_t from, std::size_t to) { put(id, view.span(from, to)); },
        [&](std::size_t from, std::size_t to) { plain(view.sub(from, to - from)); });
  }

  /// An ill-formed byte is a piece of its own; the stretches around it are split as if it were an
  /// end of the text.
  void plain(const AlignedView& view) {
    if (impl_.pretokenizer.empty()) return piece(view);
    const PreTokenizer::Sink sink = [this](const AlignedView& part) { piece(part); };
    std::size_t at = 0;
    for_each_utf8_stretch(view.bytes, [&](std::string_view stretch, bool well_formed) {
      const AlignedView part = view.sub(at, stretch.size());
      well_formed ? impl_.pretokenizer.split(part, sink) : piece(part);
      at += stretch.size();
    });
  }

  void piece(const AlignedView& view) {
    impl_.model->encode(view.bytes, scratch_);
    std::size_t at = 0;
    for (const Symbol& symbol : scratch_.symbols) {
      put(symbol.id, tracked_ ? view.span(at, at + symbol.bytes) : Span{});
      at += symbol.bytes;
    }
  }

  const Tokenizer::Impl& impl_;
  std::string_view text_;
  bool tracked_;
  Scratch scratch_;
};

}  // namespace

Tokenizer Tokenizer::open(const std::filesystem::path& checkpoint) {
  std::error_code error;
  const bool directory = std::filesystem::is_directory(checkpoint, error);
  return Tokenizer(std::make_shared<const Impl>(directory ? read_tokenizer_directory(checkpoint)
                                                          : read_tokenizer_gguf(checkpoint)));
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text) const {
  const Encoding encoding(*impl_, text, false);
  std::vector<std::int64_t> ids;
  ids.reserve(encoding.tokens.size());
  for (const TokenSpan& token : encoding.tokens) ids.push_back(token.id);
  return ids;
}

std::vector<TokenSpan> Tokenizer::encode_with_offsets(std::string_view text) const {
  return Encoding(*impl_, text, true).tokens;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids) const {
  const Decoding& decoding = impl_->decoding;
  std::string out;
  for (const std::int64_t id : ids) {
    if (!impl_->holds(id)) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("{} is not a token id of {}, which has the ids 0 to {}", id,
                              impl_->where, size() - 1));
    }
    if (!decoding.between.empty() && !out.empty()) out += decoding.between;
    out += impl_->entries[static_cast<std::size_t>(id)].bytes;
  }
  if (decoding.strip.empty()) return out;
  std::string_view kept = out;
  for (std::size_t i = 0; i < decoding.strip_begin && kept.starts_with(decoding.strip); ++i) {
    kept.remove_prefix(decoding.strip.size());
  }
  for (std::size_t i = 0; i < decoding.strip_end && kept.ends_with(decoding.strip); ++i) {
    kept.remove_suffix(decoding.strip.size());
  }
  return std::string(kept);
}

std::string Tokenizer::show(std::int64_t id) const {
  if (!impl_->holds(id)) return fmt::format("<{}>", id);
  return legible(impl_->entries[static_cast<std::size_t>(id)].bytes);
}

std::int64_t Tokenizer::size() const { return static_cast<std::int64_t>(impl_->entries.size()); }
std::optional<std::int64_t> Tokenizer::bos() const { return impl_->bos; }
std::optional<std::int64_t> Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::adds_bos() const { return impl_->adds_bos; }
bool Tokenizer::adds_eos() const { return impl_->adds_eos; }

bool Tokenizer::is_special(std::int64_t id) const {
  return impl_->holds(id) && impl_->entries[static_cast<std::size_t>(id)].special;
}

}  // namespace plumb
