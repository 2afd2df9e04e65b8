#include "plumb/run.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "plumb/error.h"

namespace plumb {

std::int64_t Tokens::batch() const { return ids.size(0); }
std::int64_t Tokens::length() const { return ids.size(1); }

Tokens make_tokens(const std::vector<std::vector<std::int64_t>>& sequences) {
  if (sequences.empty()) {
    throw Error(ErrorKind::bad_argument, "expected at least one sequence of tokens, got none");
  }
  std::size_t longest = 0;
  std::size_t shortest = sequences.front().size();
  for (const auto& sequence : sequences) {
    longest = std::max(longest, sequence.size());
    shortest = std::min(shortest, sequence.size());
  }
  if (shortest == 0) {
    throw Error(ErrorKind::bad_argument,
                "expected sequences of at least one token, got an empty one; leave it out");
  }
  const auto count = static_cast<std::int64_t>(sequences.size());
  Tokens tokens;
  tokens.ids = at::zeros({count, static_cast<std::int64_t>(longest)}, at::kLong);
  tokens.lengths = at::empty({count}, at::kLong);
  auto* ids = tokens.ids.data_ptr<std::int64_t>();
  auto* lengths = tokens.lengths.data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    std::ranges::copy(sequences[i], ids + i * longest);
    lengths[i] = static_cast<std::int64_t>(sequences[i].size());
  }
  if (shortest == longest) tokens.lengths = at::Tensor();
  return tokens;
}

const at::Tensor* Cache::find(Site site, std::string_view label) const noexcept {
  for (auto entry = entries_.lower_bound({site, {}}); entry != entries_.end(); ++entry) {
    if (entry->first.first != site) break;
    if (entry->first.second == label) return &entry->second;
  }
  return nullptr;
}

const at::Tensor& Cache::at(Site site, std::string_view label) const {
  if (const auto* found = find(site, label)) return *found;
  std::string present;
  for (const auto& [key, value] : entries_) {
    if (present.size() > 400) {
      present += ", ...";
      break;
    }
    if (!present.empty()) present += ", ";
    present += to_string(key.first);
    if (!key.second.empty()) present += ":" + key.second;
  }
  throw Error(
      ErrorKind::not_recorded,
      fmt::format("{}{}{} was not recorded by this run (it holds {}); add it to Plan::record",
                  to_string(site), label.empty() ? "" : ":", label,
                  present.empty() ? "nothing" : present));
}

void Cache::put(Site site, std::string label, at::Tensor value) {
  entries_.insert_or_assign({site, std::move(label)}, std::move(value));
}

}  // namespace plumb
