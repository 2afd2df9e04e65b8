// Clean and corrupt prompts that differ in what a circuit has to notice.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plumb/run.h"
#include "plumb/tokenizer.h"

namespace plumb {

/// One pair as ids. Both prompts have the same number of tokens, position by position alike, unless
/// `align` says which positions belong together. Without `corrupt` it is a prompt by itself, which
/// can be ablated; without answers (-1) metrics that ask for them cannot be read.
struct PairIds {
  std::vector<std::int64_t> clean = {};
  std::vector<std::int64_t> corrupt = {};
  std::int64_t right = -1;                    ///< the answer to the clean prompt
  std::int64_t wrong = -1;                    ///< the answer to the corrupt one
  std::vector<std::int64_t> also_right = {};  ///< further answers that are as good
  std::vector<std::int64_t> also_wrong = {};
  /// (clean position, corrupt position): values are pasted between these, and nowhere else. Both
  /// rise. Empty = position by position.
  std::vector<std::pair<std::int64_t, std::int64_t>> align = {};
};

/// B pairs, shorter ones padded on the right.
struct Pairs {
  Tokens clean = {};
  Tokens corrupt = {};            ///< as `clean` where the prompts have no partners
  at::Tensor reads = {};          ///< [B] int64: the last position of each clean prompt, where
                                  ///< answers are read
  at::Tensor corrupt_reads = {};  ///< [B] int64: of each corrupt prompt
  at::Tensor right = {};          ///< [B] int64
  at::Tensor wrong = {};          ///< [B] int64
  at::Tensor also_right = {};     ///< [B, n] int64: further right answers, -1 where there are fewer
  at::Tensor also_wrong = {};     ///< [B, n] int64
  at::Tensor to_clean = {};       ///< [B, T of corrupt] int64: the clean position that belongs to a
                                  ///< corrupt one, -1 = none; undefined = position by position
  at::Tensor to_corrupt = {};     ///< [B, T of clean] int64: the reverse
  bool paired = true;             ///< false: prompts without partners
  bool answered = true;           ///< false: no answers are known
  std::string sha256 = {};        ///< of all of the above
  std::int64_t count() const { return clean.batch(); }
  std::int64_t length() const { return clean.length(); }
};

/// Throws bad_argument, naming the pair, if prompts of one differ in length without a map, a map is
/// wrong, or some pairs have a partner or answers and others do not.
Pairs make_pairs(const std::vector<PairIds>& pairs);

/// `count` pairs from `first` on, padded as before.
Pairs some_of(const Pairs& pairs, std::int64_t first, std::int64_t count);

/// A file of pairs: JSON lines `{"clean": TEXT or [ids], "corrupt": ..., "answers": [right,
/// wrong], "align": [[clean position, corrupt position], ...]}`. An answer is a text of one token,
/// an id, or a list of those; `corrupt`, `answers` and `align` may be left out. Or, where the name
/// ends in .csv, EAP-IG's columns `clean, corrupted, correct_idx, incorrect_idx` (ids). `bos` is
/// put before texts, not before ids. Throws bad_file or bad_argument naming the line.
std::vector<PairIds> read_pairs(const std::filesystem::path& file, const Tokenizer* tokenizer,
                                std::optional<std::int64_t> bos);

}  // namespace plumb
