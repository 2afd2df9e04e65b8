#include "plumb/pairs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/sha256.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(std::size_t pair, const std::string& what) {
  throw Error(ErrorKind::bad_argument, fmt::format("pair {}: {}", pair + 1, what));
}

// [B, longest], filled up with -1.
at::Tensor table(const std::vector<std::vector<std::int64_t>>& rows) {
  std::size_t longest = 0;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  at::Tensor made = at::full(
      {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(longest)}, -1, at::kLong);
  for (std::size_t b = 0; b < rows.size(); ++b) {
    for (std::size_t i = 0; i < rows[b].size(); ++i)
      made[static_cast<std::int64_t>(b)][static_cast<std::int64_t>(i)] = rows[b][i];
  }
  return made;
}

void check_align(std::size_t number, const PairIds& pair) {
  const auto outside = [](std::int64_t position, const std::vector<std::int64_t>& prompt) {
    return position < 0 || position >= static_cast<std::int64_t>(prompt.size());
  };
  for (std::size_t i = 0; i < pair.align.size(); ++i) {
    const auto [clean, corrupt] = pair.align[i];
    if (outside(clean, pair.clean) || outside(corrupt, pair.corrupt)) {
      refuse(number, fmt::format("the map names positions {} and {}; the prompts have {} and {} "
                                 "tokens, counted from 0",
                                 clean, corrupt, pair.clean.size(), pair.corrupt.size()));
    }
    if (i > 0 && (clean <= pair.align[i - 1].first || corrupt <= pair.align[i - 1].second))
      refuse(number, "the positions of the map must rise in both prompts");
  }
}

// Where some pair has a map, the maps of all: [B, T of clean] and [B, T of corrupt].
void put_maps(const std::vector<PairIds>& pairs, Pairs& made) {
  if (std::ranges::all_of(pairs, [](const PairIds& pair) { return pair.align.empty(); })) return;
  const auto B = static_cast<std::int64_t>(pairs.size());
  made.to_corrupt = at::full({B, made.clean.length()}, -1, at::kLong);
  made.to_clean = at::full({B, made.corrupt.length()}, -1, at::kLong);
  for (std::int64_t b = 0; b < B; ++b) {
    const PairIds& pair = pairs[static_cast<std::size_t>(b)];
    const auto join = [&](std::int64_t clean, std::int64_t corrupt) {
      made.to_corrupt[b][clean] = corrupt;
      made.to_clean[b][corrupt] = clean;
    };
    for (const auto& [clean, corrupt] : pair.align) join(clean, corrupt);
    if (pair.align.empty()) {
      for (std::int64_t t = 0; t < static_cast<std::int64_t>(pair.clean.size()); ++t) join(t, t);
    }
  }
}

std::string hash_of(const Pairs& pairs) {
  Sha256 sha;
  const auto take = [&sha](const at::Tensor& part) {
    const at::Tensor values = part.contiguous();
    sha.update(values.data_ptr<std::int64_t>(),
               static_cast<std::size_t>(values.numel()) * sizeof(std::int64_t));
  };
  for (const at::Tensor& part :
       {pairs.clean.ids, pairs.corrupt.ids, pairs.reads, pairs.right, pairs.wrong})
    take(part);
  for (const at::Tensor& more : {pairs.also_right, pairs.also_wrong}) {
    if (more.size(1) > 0) take(more);
  }
  if (pairs.to_clean.defined()) {
    take(pairs.corrupt_reads);
    take(pairs.to_clean);
  }
  return sha.hex();
}

}  // namespace

Pairs make_pairs(const std::vector<PairIds>& pairs) {
  if (pairs.empty()) throw Error(ErrorKind::bad_argument, "expected at least one pair, got none");
  Pairs made;
  made.paired = !pairs.front().corrupt.empty();
  made.answered = pairs.front().right >= 0;
  std::vector<std::vector<std::int64_t>> clean;
  std::vector<std::vector<std::int64_t>> corrupt;
  std::vector<std::int64_t> right;
  std::vector<std::int64_t> wrong;
  std::vector<std::vector<std::int64_t>> also_right;
  std::vector<std::vector<std::int64_t>> also_wrong;
  std::vector<std::int64_t> reads;
  std::vector<std::int64_t> corrupt_reads;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const PairIds& pair = pairs[i];
    if (pair.clean.empty()) refuse(i, "the clean prompt has no token");
    if (pair.corrupt.empty() == made.paired)
      refuse(i, "some pairs have a corrupt prompt and others do not");
    if ((pair.right >= 0) != made.answered || (pair.wrong >= 0) != made.answered)
      refuse(i, "some pairs have answers, right and wrong, and others do not");
    if (made.paired && pair.align.empty() && pair.clean.size() != pair.corrupt.size()) {
      refuse(i, fmt::format("expected clean and corrupt prompts of the same number of tokens, got "
                            "{} and {}; reword one, give ids, or say with \"align\" which "
                            "positions belong together",
                            pair.clean.size(), pair.corrupt.size()));
    }
    check_align(i, pair);
    const std::vector<std::int64_t>& other = made.paired ? pair.corrupt : pair.clean;
    clean.push_back(pair.clean);
    corrupt.push_back(other);
    reads.push_back(static_cast<std::int64_t>(pair.clean.size()) - 1);
    corrupt_reads.push_back(static_cast<std::int64_t>(other.size()) - 1);
    right.push_back(pair.right);
    wrong.push_back(pair.wrong);
    also_right.push_back(pair.also_right);
    also_wrong.push_back(pair.also_wrong);
  }
  made.clean = make_tokens(clean);
  made.corrupt = make_tokens(corrupt);
  made.reads = at::tensor(reads, at::kLong);
  made.corrupt_reads = at::tensor(corrupt_reads, at::kLong);
  made.right = at::tensor(right, at::kLong);
  made.wrong = at::tensor(wrong, at::kLong);
  made.also_right = table(also_right);
  made.also_wrong = table(also_wrong);
  put_maps(pairs, made);
  made.sha256 = hash_of(made);
  return made;
}

Pairs some_of(const Pairs& pairs, std::int64_t first, std::int64_t count) {
  Pairs some = pairs;
  for (at::Tensor* whole :
       {&some.clean.ids, &some.clean.lengths, &some.corrupt.ids, &some.corrupt.lengths, &some.reads,
        &some.corrupt_reads, &some.right, &some.wrong, &some.also_right, &some.also_wrong,
        &some.to_clean, &some.to_corrupt}) {
    if (whole->defined()) *whole = whole->narrow(0, first, count);
  }
  some.sha256 = hash_of(some);
  return some;
}

}  // namespace plumb
