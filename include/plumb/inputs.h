// What an experiment is run on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plumb/run.h"
#include "plumb/tokenizer.h"

namespace plumb {

/// Whether a sequence starts with a beginning-of-sequence token.
struct Bos {
  enum class Kind { none, native, given };
  Kind kind = Kind::native;  ///< native: what the model's tokenizer would do
  std::int64_t id = 0;       ///< for `given`
};

/// Parses "none", "native" or a token id. Throws bad_argument.
Bos parse_bos(const std::string& text);
std::string to_string(const Bos& bos);

/// Token sequences and where they come from.
struct Inputs {
  Tokens tokens = {};
  std::string kind = {};                 ///< "text", "random" or "tokens"
  std::optional<std::int64_t> bos = {};  ///< id that stands before every sequence, if one does
  std::string sha256 = {};               ///< of the ids and lengths
  std::int64_t length() const { return tokens.length(); }
};

/// The id that `bos` puts first, if any. `native` without a tokenizer, or one that adds none, is
/// none.
std::optional<std::int64_t> bos_id(const Bos& bos, const Tokenizer* tokenizer);

/// Sequences of ids cut to `length` content tokens, with `bos` before them. Shorter ones are padded
/// on the right, and honoured as shorter everywhere. Throws bad_argument if one is empty.
Inputs make_inputs(std::vector<std::vector<std::int64_t>> sequences, std::int64_t length,
                   std::optional<std::int64_t> bos, std::string kind);

/// Encodes each text. Throws bad_argument if a text gives no token.
std::vector<std::vector<std::int64_t>> encode_all(const Tokenizer& tokenizer,
                                                  const std::vector<std::string>& texts);

/// `count` sequences of `length` ids drawn uniformly from those the tokenizer does not call special
/// (all ids without a tokenizer).
std::vector<std::vector<std::int64_t>> random_ids(std::int64_t count, std::int64_t length,
                                                  std::int64_t vocab, const Tokenizer* tokenizer,
                                                  std::uint64_t seed);

/// Lines of a UTF-8 text file, one sequence a line, empty lines left out. Throws bad_file.
std::vector<std::string> read_texts(const std::filesystem::path& file);

/// A JSON list of lists of ids. Throws bad_file, naming the entry that is wrong.
std::vector<std::vector<std::int64_t>> read_token_file(const std::filesystem::path& file);

/// The first `count` sequences of the inputs, cut to `length` positions (BOS included).
Inputs head(const Inputs& inputs, std::int64_t count, std::int64_t length);

}  // namespace plumb
