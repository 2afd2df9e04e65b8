// Token ids as lists, which inputs are made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace plumb::test {

/// The rows of ids [B, T].
inline std::vector<std::vector<std::int64_t>> as_lists(const at::Tensor& ids) {
  std::vector<std::vector<std::int64_t>> lists;
  for (std::int64_t b = 0; b < ids.size(0); ++b) {
    const auto* row = ids[b].data_ptr<std::int64_t>();
    lists.emplace_back(row, row + ids.size(1));
  }
  return lists;
}

}  // namespace plumb::test
