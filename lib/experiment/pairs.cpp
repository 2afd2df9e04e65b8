#include "plumb/pairs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/sha256.h"
#include "plumb/error.h"

namespace plumb {
namespace {

std::string hash_of(const Pairs& pairs) {
  Sha256 sha;
  for (const at::Tensor& part :
       {pairs.clean.ids, pairs.corrupt.ids, pairs.reads, pairs.right, pairs.wrong}) {
    const at::Tensor values = part.contiguous();
    sha.update(values.data_ptr<std::int64_t>(),
               static_cast<std::size_t>(values.numel()) * sizeof(std::int64_t));
  }
  return sha.hex();
}

}  // namespace

Pairs make_pairs(const std::vector<PairIds>& pairs) {
  if (pairs.empty()) throw Error(ErrorKind::bad_argument, "expected at least one pair, got none");
  std::vector<std::vector<std::int64_t>> clean;
  std::vector<std::vector<std::int64_t>> corrupt;
  std::vector<std::int64_t> reads;
  std::vector<std::int64_t> right;
  std::vector<std::int64_t> wrong;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const PairIds& pair = pairs[i];
    if (pair.clean.empty() || pair.clean.size() != pair.corrupt.size()) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("pair {}: expected clean and corrupt prompts of the same number of "
                              "tokens, got {} and {}; reword one, or give ids",
                              i + 1, pair.clean.size(), pair.corrupt.size()));
    }
    clean.push_back(pair.clean);
    corrupt.push_back(pair.corrupt);
    reads.push_back(static_cast<std::int64_t>(pair.clean.size()) - 1);
    right.push_back(pair.right);
    wrong.push_back(pair.wrong);
  }
  Pairs made;
  made.clean = make_tokens(clean);
  made.corrupt = make_tokens(corrupt);
  made.reads = at::tensor(reads, at::kLong);
  made.right = at::tensor(right, at::kLong);
  made.wrong = at::tensor(wrong, at::kLong);
  made.sha256 = hash_of(made);
  return made;
}

Pairs some_of(const Pairs& pairs, std::int64_t first, std::int64_t count) {
  const auto cut = [&](const at::Tensor& whole) {
    return whole.defined() ? whole.narrow(0, first, count) : whole;
  };
  Pairs some = pairs;
  for (Tokens* tokens : {&some.clean, &some.corrupt}) {
    tokens->ids = cut(tokens->ids);
    tokens->lengths = cut(tokens->lengths);
  }
  some.reads = cut(pairs.reads);
  some.right = cut(pairs.right);
  some.wrong = cut(pairs.wrong);
  some.sha256 = hash_of(some);
  return some;
}

}  // namespace plumb
