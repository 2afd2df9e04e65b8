// Byte pair encoding of one piece of text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <string_view>
#include <tuple>
#include <vector>

namespace plumb {

/// What a pair of neighbouring tokens becomes, and how early.
struct Merge {
  std::int32_t rank = -1;  ///< smaller merges first; -1: the pair does not merge
  std::int32_t id = -1;
};

/// Merges by the pair of ids: open addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(std::size_t merges) {
    std::size_t slots = 16;
    while (slots < 2 * merges + 2) slots *= 2;
    slots_.resize(slots);
  }

  /// A pair given twice keeps the later merge.
  void put(std::int32_t left, std::int32_t right, Merge merge) {
    Slot& slot = slots_[index(key(left, right))];
    slot = {key(left, right), merge};
  }

  Merge get(std::int32_t left, std::int32_t right) const {
    const Slot& slot = slots_[index(key(left, right))];
    return slot.merge;  // an empty slot's merge has rank -1
  }

 private:
  struct Slot {
    std::uint64_t key = no_key;
    Merge merge = {};
  };
  static constexpr std::uint64_t no_key = ~std::uint64_t{0};  // ids are never negative

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }

  /// The slot that holds `key`, or the empty one where it belongs.
  std::size_t index(std::uint64_t wanted) const {
    const std::size_t mask = slots_.size() - 1;
    // Fibonacci hashing: the high bits of the product are well mixed.
    auto at = static_cast<std::size_t>(wanted * 0x9E3779B97F4A7C15U >> 20) & mask;
    while (slots_[at].key != wanted && slots_[at].key != no_key) at = (at + 1) & mask;
    return at;
  }

  std::vector<Slot> slots_;
};

/// A token of a piece, and how many of the piece's bytes it stands for.
struct Symbol {
  std::int32_t id = -1;
  std::uint32_t bytes = 0;
};

/// Merges symbols until no pair of neighbours merges: each time the pair of lowest rank, the
/// leftmost of several. Keeps its buffer between calls; one for each thread.
class Merger {
 public:
  /// Replaces `symbols` by the merged ones.
  void merge(const MergeTable& table, std::vector<Symbol>& symbols) {
    if (symbols.size() < 2) return;
    symbols.size() <= short_piece ? merge_by_scan(table, symbols) : merge_by_heap(table, symbols);
  }

 private:
  // Up to here scanning all ranks for each merge beats the heap; beyond, it would be quadratic.
  static constexpr std::size_t short_piece = 48;

  void merge_by_scan(const MergeTable& table, std::vector<Symbol>& symbols) {
    merges_.clear();
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      merges_.push_back(table.get(symbols[i].id, symbols[i + 1].id));
    }
    while (true) {
      std::size_t best = merges_.size();
      auto lowest = static_cast<std::uint32_t>(-1);  // as unsigned, -1 is above every rank
      for (std::size_t i = 0; i < merges_.size(); ++i) {
        const auto rank = static_cast<std::uint32_t>(merges_[i].rank);
        if (rank < lowest) {
          lowest = rank;
          best = i;
        }
      }
      if (best == merges_.size()) return;
      symbols[best] = {merges_[best].id, symbols[best].bytes + symbols[best + 1].bytes};
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      merges_.erase(merges_.begin() + static_cast<std::ptrdiff_t>(best));
      if (best > 0) merges_[best - 1] = table.get(symbols[best - 1].id, symbols[best].id);
      if (best < merges_.size()) {
        merges_[best] = table.get(symbols[best].id, symbols[best + 1].id);
      }
    }
  }

  static void merge_by_heap(const MergeTable& table, std::vector<Symbol>& symbols) {
    constexpr std::int32_t gone = -1;
    const std::size_t count = symbols.size();
    // Neighbours as a linked list over positions; `count` ends it on both sides.
    std::vector<std::size_t> next(count);
    std::vector<std::size_t> previous(count);
    for (std::size_t i = 0; i < count; ++i) {
      next[i] = i + 1;
      previous[i] = i == 0 ? count : i - 1;
    }
    using Candidate = std::tuple<std::int32_t, std::size_t, std::int32_t>;  // rank, position, id
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto merge_at = [&](std::size_t at) {
      return table.get(symbols[at].id, symbols[next[at]].id);
    };
    const auto offer = [&](std::size_t at) {
      if (at == count || next[at] == count) return;
      const Merge merge = merge_at(at);
      if (merge.rank >= 0) queue.emplace(merge.rank, at, merge.id);
    };
    for (std::size_t i = 0; i < count; ++i) offer(i);
    while (!queue.empty()) {
      const auto [rank, at, id] = queue.top();
      queue.pop();
      // Candidates are not withdrawn when one side changes; they are recognised here as outdated.
      if (symbols[at].id == gone || next[at] == count) continue;
      const Merge merge = merge_at(at);
      if (merge.rank != rank || merge.id != id) continue;
      const std::size_t eaten = next[at];
      symbols[at] = {id, symbols[at].bytes + symbols[eaten].bytes};
      symbols[eaten].id = gone;
      next[at] = next[eaten];
      if (next[at] != count) previous[next[at]] = at;
      offer(previous[at]);
      offer(at);
    }
    std::erase_if(symbols, [](const Symbol& symbol) { return symbol.id == gone; });
  }

  std::vector<Merge> merges_;
};

}  // namespace plumb
