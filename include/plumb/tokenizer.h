// Text to token ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A byte-level BPE tokenizer, read from a Hugging Face directory's `tokenizer.json` (+ optional
/// `tokenizer_config.json`) or from the metadata of a `.gguf` file. Immutable; safe to share
/// between threads.
class Tokenizer {
 public:
  /// Throws bad_file (missing, damaged) or unsupported (another model or pre-tokenizer, named).
  static Tokenizer open(const std::filesystem::path& checkpoint);

  /// Token ids of `text` (UTF-8; invalid bytes are encoded byte by byte). Special tokens written
  /// out in the text are recognised. No BOS is added. Throws bad_argument on a byte for which the
  /// vocabulary has neither a token nor an unknown token (SmolLM2's lacks 21, control and invalid).
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// Bytes of the ids; special tokens are written out. Throws bad_argument on an id out of range.
  std::string decode(const std::vector<std::int64_t>& ids) const;

  /// One token as a person would read it: its text, with control characters and partial UTF-8
  /// escaped as \n, \t, \xNN; "<7>" where there is no token 7.
  std::string show(std::int64_t id) const;

  std::int64_t size() const;                ///< number of ids
  std::optional<std::int64_t> bos() const;  ///< id of the BOS token, if there is one
  std::optional<std::int64_t> eos() const;
  bool adds_bos() const;  ///< whether the native condition has a BOS
  bool is_special(std::int64_t id) const;

  struct Impl;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace plumb
