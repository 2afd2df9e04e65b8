// Text to token ids and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A token, and the bytes of the text that it stands for: `begin` to before `end`. Tokens of one
/// character have parts of it; what normalisation merges, all of them have whole; what it puts in,
/// as the space in front of a text, has none of its own.
struct TokenSpan {
  std::int64_t id = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A BPE (over bytes or characters) or Unigram tokenizer, read from a Hugging Face directory
/// (`tokenizer.json`, or SentencePiece's `tokenizer.model` for want of it, and optionally
/// `tokenizer_config.json`) or from the metadata of a `.gguf` file. Immutable; safe to share
/// between threads.
class Tokenizer {
 public:
  /// Throws bad_file (missing, damaged) or unsupported (what plumb does not handle, named).
  static Tokenizer open(const std::filesystem::path& checkpoint);

  /// Token ids of `text` (UTF-8; each invalid byte is encoded by itself). Added tokens written out
  /// in the text are recognised. No BOS is added. Throws bad_argument on a byte or character for
  /// which the vocabulary has neither a token nor an unknown token (SmolLM2's lacks 21 bytes,
  /// control and invalid).
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// The same with each token's place in `text`.
  std::vector<TokenSpan> encode_with_offsets(std::string_view text) const;

  /// Bytes of the ids; special tokens are written out. What encode made of a text is that text
  /// again, but for what normalisation and unknown tokens lost. Throws bad_argument on an id out of
  /// range.
  std::string decode(const std::vector<std::int64_t>& ids) const;

  /// One token as a person would read it: its text, with control characters and partial UTF-8
  /// escaped as `\n`, `\t`, `\xNN`; "<7>" where there is no token 7.
  std::string show(std::int64_t id) const;

  std::int64_t size() const;                ///< number of ids
  std::optional<std::int64_t> bos() const;  ///< id of the BOS token, if there is one
  std::optional<std::int64_t> eos() const;
  bool adds_bos() const;  ///< whether the native condition has a BOS
  bool adds_eos() const;  ///< whether it would end a text with an EOS, which plumb never does
  bool is_special(std::int64_t id) const;

  struct Impl;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace plumb
