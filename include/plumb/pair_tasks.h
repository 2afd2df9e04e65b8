// Clean and corrupt prompts made from templates, for any tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/tokenizer.h"

namespace plumb {

enum class PairTask {
  ioi,           ///< indirect object identification (arXiv:2211.00593): "When Mary and John went to
                 ///< the store, John gave a drink to"; corrupt: the second John is Mary
  greater_than,  ///< later years (arXiv:2305.00586): "The war lasted from the year 1732 to the year
                 ///< 17"; corrupt: from the year 1701
  induction,     ///< random tokens, the first ones again: the token that followed is to follow;
                 ///< corrupt: it was another one that followed
};
const char* to_string(PairTask task) noexcept;
PairTask parse_pair_task(const std::string& text);

struct PairTaskOptions {
  std::int64_t count = 64;
  std::uint64_t seed = 0;
  std::int64_t length = 16;  ///< of induction: random tokens before they start again, at least 2
};

/// Lines that `read_pairs` reads, no two alike, the same for the same seed and tokenizer. Prompts
/// are texts (of induction ids), answers ids. Names and numbers are those that the tokenizer writes
/// as one token at their place; in every pair both prompts have the same number of tokens and
/// differ in one (of greater_than, where a digit is a token, in two). Throws bad_argument if so
/// many pairs cannot be made, unsupported if the tokenizer knows too few of the words as tokens.
/// `vocab` is the model's; without a tokenizer only induction can be made.
std::vector<std::string> make_pair_lines(PairTask task, const Tokenizer* tokenizer,
                                         std::int64_t vocab, const PairTaskOptions& options = {});

}  // namespace plumb
