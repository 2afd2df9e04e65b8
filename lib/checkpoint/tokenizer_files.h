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

#include "checkpoint/pretokenizer.h"

namespace plumb {

/// A token that is found in the text as it is written, before any splitting.
struct AddedToken {
  std::string content = {};
  std::int64_t id = 0;
  bool special = false;
  bool normalized = false;  ///< looked for after normalisation of the text, not before
};

struct TokenizerSpec {
  std::string where = {};                                        ///< begins every message
  std::vector<std::pair<std::string, std::int64_t>> vocab = {};  ///< in the byte-level alphabet
  std::vector<std::pair<std::string, std::string>> merges = {};  ///< by rank
  std::vector<AddedToken> added = {};
  PreTokenizer pretokenizer = {};
  bool nfc = false;            ///< text is brought to normalisation form C first
  bool ignore_merges = false;  ///< a piece that is a token is that token, without merging
  bool fuse_unknown = false;   ///< neighbouring unknown bytes become one unknown token
  std::optional<std::string> unknown = {};  ///< stands for bytes that the vocabulary lacks
  std::optional<std::int64_t> bos = {};
  std::optional<std::int64_t> eos = {};
  bool adds_bos = false;
};

/// Ids from 0 to this; more than any vocabulary in use, and small enough to index an array by.
constexpr std::int64_t largest_token_id = (1 << 20) - 1;

/// From `tokenizer.json`, and `tokenizer_config.json` and `config.json` where they exist. Throws
/// bad_file on missing or damaged files, unsupported (naming field and value) on what plumb does
/// not handle.
TokenizerSpec read_tokenizer_directory(const std::filesystem::path& directory);

/// From the `tokenizer.ggml.*` metadata of a GGUF file. Throws as above.
TokenizerSpec read_tokenizer_gguf(const std::filesystem::path& path);

/// A merge written "a b", as a pair; tokens in the byte-level alphabet contain no space. Throws
/// bad_file naming the merge's index.
std::pair<std::string, std::string> split_merge(std::string_view text, const std::string& where,
                                                std::size_t index);

}  // namespace plumb
