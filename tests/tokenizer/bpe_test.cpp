// Merging against the definition, over random merge tables.
#include "checkpoint/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

namespace plumb {
namespace {

using Tokens = std::vector<std::int32_t>;
using Pairs = std::map<std::pair<std::int32_t, std::int32_t>, Merge>;

/// The definition: the pair of lowest rank, the leftmost of several, until there is none.
Tokens merge_naively(Tokens tokens, const Pairs& pairs) {
  while (true) {
    std::size_t best = tokens.size();
    Merge lowest;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto found = pairs.find({tokens[i], tokens[i + 1]});
      if (found == pairs.end()) continue;
      if (best == tokens.size() || found->second.rank < lowest.rank) {
        best = i;
        lowest = found->second;
      }
    }
    if (best == tokens.size()) return tokens;
    tokens[best] = lowest.id;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

/// Random merges over a few letters; every merge makes a token of its own, as in a vocabulary of
/// distinct strings, and merges are not in the order in which training would find them.
Pairs random_merges(std::mt19937& random, std::int32_t letters, int count) {
  Pairs pairs;
  std::int32_t next = letters;
  std::vector<std::int32_t> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(i);
  std::shuffle(ranks.begin(), ranks.end(), random);
  for (int i = 0; i < count; ++i) {
    std::uniform_int_distribution<std::int32_t> token(0, next - 1);
    const std::pair pair{token(random), token(random)};
    if (pairs.try_emplace(pair, Merge{ranks[static_cast<std::size_t>(i)], next}).second) ++next;
  }
  return pairs;
}

TEST(Bpe, MergesAsDefinedOnShortAndLongPieces) {
  std::mt19937 random(7);
  for (int table = 0; table < 200; ++table) {
    const std::int32_t letters = 2 + table % 4;
    const Pairs pairs = random_merges(random, letters, 3 + table % 40);
    MergeTable merges(pairs.size());
    for (const auto& [pair, merge] : pairs) merges.put(pair.first, pair.second, merge);
    Merger merger;
    for (const std::size_t size : {0U, 1U, 2U, 3U, 7U, 20U, 47U, 48U, 49U, 50U, 90U, 200U}) {
      Tokens tokens(size);
      std::uniform_int_distribution<std::int32_t> letter(0, letters - 1);
      for (std::int32_t& token : tokens) token = letter(random);
      const Tokens expected = merge_naively(tokens, pairs);
      std::vector<Symbol> symbols;
      for (const std::int32_t token : tokens) symbols.push_back({token, 1});
      merger.merge(merges, symbols);
      Tokens merged;
      std::size_t bytes = 0;
      for (const Symbol& symbol : symbols) {
        merged.push_back(symbol.id);
        bytes += symbol.bytes;
      }
      ASSERT_EQ(merged, expected) << "table " << table << ", size " << size;
      ASSERT_EQ(bytes, size);
    }
  }
}

TEST(MergeTable, FindsWhatWasPutAndNothingElse) {
  MergeTable table(1000);
  for (std::int32_t i = 0; i < 1000; ++i) table.put(i, i * 7, {i, i + 5000});
  for (std::int32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(table.get(i, i * 7).rank, i);
    EXPECT_EQ(table.get(i, i * 7).id, i + 5000);
    EXPECT_EQ(table.get(i, i * 7 + 1).rank, -1);
  }
}

TEST(MergeTable, KeepsTheLaterOfTwo) {
  MergeTable table(2);
  table.put(1, 2, {0, 10});
  table.put(1, 2, {5, 11});
  EXPECT_EQ(table.get(1, 2).rank, 5);
  EXPECT_EQ(table.get(1, 2).id, 11);
}

}  // namespace
}  // namespace plumb
