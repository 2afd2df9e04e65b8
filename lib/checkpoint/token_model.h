// From a piece of text to its tokens.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/bpe.h"
#include "checkpoint/tokenizer_files.h"

namespace plumb {

/// Ids of the tokens as they are written in the vocabulary.
using TokenIds = std::unordered_map<std::string, std::int32_t>;

/// Buffers of one call of encode.
struct Scratch {
  std::vector<Symbol> symbols = {};
  Merger merger = {};
};

/// Immutable; safe to share between threads.
class TokenModel {
 public:
  TokenModel() = default;
  virtual ~TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;

  /// Leaves the tokens of `piece`, which together have its bytes, in `scratch.symbols`. Throws
  /// bad_argument on text that the vocabulary cannot write.
  virtual void encode(std::string_view piece, Scratch& scratch) const = 0;
};

/// What stands for text that the vocabulary lacks.
struct Fallback {
  Fallback(const TokenizerSpec& spec, const TokenIds& ids);

  /// Appends what stands for `part` (a character, an ill-formed byte or a run of them): its bytes'
  /// tokens or the unknown token. Throws bad_argument when there is neither.
  void append(std::string_view part, std::vector<Symbol>& out) const;

  std::string where;
  bool bytes = false;  ///< whether every byte has a token
  std::array<std::int32_t, 256> byte_tokens = {};
  std::int32_t unknown = -1;
};

std::unique_ptr<const TokenModel> make_byte_bpe(const TokenizerSpec& spec, const TokenIds& ids);
std::unique_ptr<const TokenModel> make_character_bpe(const TokenizerSpec& spec,
                                                     const TokenIds& ids);
std::unique_ptr<const TokenModel> make_unigram(const TokenizerSpec& spec, const TokenIds& ids);

/// The id of `token`. Throws bad_file, saying that `what` names it, when there is none.
std::int32_t id_of(const std::string& token, const std::string& what, const TokenizerSpec& spec,
                   const TokenIds& ids);

}  // namespace plumb
