// Rows of a table that were asked for, and no others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace plumb {

/// Safe to use from many threads.
class RowCache {
 public:
  /// Reads rows [n, width] of the table.
  using Read = std::function<at::Tensor(const std::vector<std::int64_t>& ids)>;
  explicit RowCache(Read read) : read_(std::move(read)) {}

  /// [n, width] of the ids [n]. Throws what reading throws; the next call then tries again.
  at::Tensor get(const at::Tensor& ids);
  void forget();

 private:
  Read read_;
  std::mutex mutex_ = {};
  std::unordered_map<std::int64_t, std::int64_t> row_of_ = {};  ///< id to row of rows_
  at::Tensor rows_ = {};                                        ///< the first of them are filled
};

}  // namespace plumb
