// Clean and corrupt prompts that differ in what a circuit has to notice.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plumb/run.h"
#include "plumb/tokenizer.h"

namespace plumb {

/// One pair as ids. Both prompts have the same number of tokens, position by position alike.
struct PairIds {
  std::vector<std::int64_t> clean = {};
  std::vector<std::int64_t> corrupt = {};
  std::int64_t right = 0;  ///< the answer to the clean prompt
  std::int64_t wrong = 0;  ///< the answer to the corrupt one
};

/// B pairs, shorter ones padded on the right.
struct Pairs {
  Tokens clean = {};
  Tokens corrupt = {};
  at::Tensor reads = {};    ///< [B] int64: the last position of each prompt, where answers are read
  at::Tensor right = {};    ///< [B] int64
  at::Tensor wrong = {};    ///< [B] int64
  std::string sha256 = {};  ///< of all of the above
  std::int64_t count() const { return clean.batch(); }
  std::int64_t length() const { return clean.length(); }
};

/// Throws bad_argument, naming the pair, if the prompts of one differ in length or are empty.
Pairs make_pairs(const std::vector<PairIds>& pairs);

/// `count` pairs from `first` on, padded as before.
Pairs some_of(const Pairs& pairs, std::int64_t first, std::int64_t count);

/// A file of pairs: JSON lines `{"clean": TEXT or [ids], "corrupt": ..., "answers": [right,
/// wrong]}`, answers being texts of one token each or ids; or, where the name ends in .csv,
/// EAP-IG's columns `clean, corrupted, correct_idx, incorrect_idx` (ids). `bos` is put before
/// texts, not before ids. Throws bad_file or bad_argument naming the line.
std::vector<PairIds> read_pairs(const std::filesystem::path& file, const Tokenizer* tokenizer,
                                std::optional<std::int64_t> bos);

}  // namespace plumb
