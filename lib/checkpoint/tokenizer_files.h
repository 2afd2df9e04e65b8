// What the files say about a tokenizer, before anything is built from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/added_tokens.h"
#include "checkpoint/json.h"
#include "checkpoint/normalizer.h"
#include "checkpoint/pretokenizer.h"

namespace plumb {

/// A token that is found in the text as it is written, before any splitting.
struct AddedToken {
  std::string content = {};
  std::int64_t id = 0;
  bool special = false;
  bool normalized = false;  ///< looked for after normalisation of the text, not before
  AddedRules rules = {};
  bool exact = false;  ///< is in its normalised form already
};

/// How a piece becomes tokens.
enum class ModelKind {
  byte_bpe,       ///< merges over bytes; tokens are written in the byte-level alphabet
  character_bpe,  ///< merges over characters
  scored_bpe,     ///< the same, the tokens' scores saying which merge comes first
  unigram,        ///< the segmentation of the largest sum of scores
};

/// How tokens become text.
struct Decoding {
  std::vector<std::pair<std::string, std::string>> replace = {};  ///< in every token, in order
  bool byte_tokens = false;                                       ///< <0x0A> is the byte 0x0A
  std::string between = {};                                       ///< stands between the tokens
  std::string strip = {};       ///< is taken off the whole text's ends
  std::size_t strip_begin = 0;  ///< this many times at most
  std::size_t strip_end = 0;
};

struct TokenizerSpec {
  std::string where = {};  ///< begins every message
  ModelKind model = ModelKind::byte_bpe;
  std::vector<std::pair<std::string, std::int64_t>> vocab = {};
  std::vector<std::pair<std::string, std::string>> merges = {};  ///< by rank
  std::vector<double> scores = {};                               ///< in the order of `vocab`
  std::vector<bool> in_text = {};       ///< by `vocab`: may stand for plain text; empty: all
  std::vector<bool> user_defined = {};  ///< by `vocab`: unigram prefers it; empty: none
  std::vector<AddedToken> added = {};
  std::vector<std::int64_t> special_ids = {};  ///< beside the added ones that say so
  Normalizer normalizer = {};
  bool nfc = false;  ///< the normalizer is normalisation form C, as some names in GGUF mean
  PreTokenizer pretokenizer = {};
  Decoding decoding = {};
  bool ignore_merges = false;  ///< a piece that is a token is that token, without merging
  bool fuse_unknown = false;   ///< neighbouring unknown characters become one unknown token
  bool byte_fallback = false;  ///< characters that the vocabulary lacks become their bytes' tokens
  bool single_precision = false;            ///< of unigram's sums, as in SentencePiece
  std::optional<std::string> unknown = {};  ///< stands for text that the vocabulary lacks
  std::optional<std::int64_t> bos = {};
  std::optional<std::int64_t> eos = {};
  bool adds_bos = false;
  bool adds_eos = false;
};

/// Ids from 0 to this; more than any vocabulary in use, and small enough to index an array by.
constexpr std::int64_t largest_token_id = (1 << 20) - 1;

/// Twice the largest tokenizer.json known; parsed, it takes some ten times as much.
constexpr std::uint64_t largest_tokenizer_file = 64U << 20U;

/// From `tokenizer.json`, or `tokenizer.model` for want of it, and `tokenizer_config.json` and
/// `config.json` where they exist. Throws bad_file on missing or damaged files, unsupported (naming
/// field and value) on what plumb does not handle.
TokenizerSpec read_tokenizer_directory(const std::filesystem::path& directory);

/// The tokenizer of one `tokenizer.json`, `tokenizer.model` or GGUF file. Throw as above.
TokenizerSpec read_tokenizer_json(const std::filesystem::path& path);
TokenizerSpec read_tokenizer_model(const std::filesystem::path& path);
TokenizerSpec read_tokenizer_gguf(const std::filesystem::path& path);

/// The normalizer, pre-tokenizer and decoder of a `tokenizer.json`.
void read_text_steps(const Fields& top, TokenizerSpec& spec);

/// One entry of `added_tokens` or `added_tokens_decoder`.
AddedToken read_added_token(const Fields& fields, std::int64_t id);

/// A merge written "a b", as a pair. Throws bad_file naming the merge's index.
std::pair<std::string, std::string> split_merge(std::string_view text, const std::string& where,
                                                std::size_t index);

/// The members of a Sequence step, or the step itself.
std::vector<Fields> sequence_of(const Fields& step, const std::string& members);

/// "<0x0A>" for the byte 0x0A.
std::string byte_token(unsigned char byte);
/// The byte that `token` names so, if it does.
std::optional<char> byte_named(std::string_view token);

}  // namespace plumb
