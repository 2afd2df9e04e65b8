#include "model/row_cache.h"

#include <ATen/ATen.h>

namespace plumb {

at::Tensor RowCache::get(const at::Tensor& ids) {
  const at::Tensor here = ids.cpu().contiguous();
  const auto* id = here.data_ptr<std::int64_t>();
  const std::lock_guard guard(mutex_);
  std::vector<std::int64_t> fresh;
  std::vector<std::int64_t> places(static_cast<std::size_t>(here.numel()));
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto [known, is_new] = row_of_.emplace(id[i], static_cast<std::int64_t>(row_of_.size()));
    if (is_new) fresh.push_back(id[i]);
    places[i] = known->second;
  }
  if (!fresh.empty()) {
    try {
      const at::Tensor read = read_(fresh);
      const auto known = static_cast<std::int64_t>(row_of_.size()) - read.size(0);
      if (!rows_.defined() || rows_.size(0) < known + read.size(0)) {
        // Twice as many, so that rows are not copied again with every few that come.
        const at::Tensor larger =
            at::empty({2 * (known + read.size(0)), read.size(1)}, read.options());
        if (known > 0) larger.narrow(0, 0, known).copy_(rows_.narrow(0, 0, known));
        rows_ = larger;
      }
      rows_.narrow(0, known, read.size(0)).copy_(read);
    } catch (...) {
      for (const std::int64_t unread : fresh) row_of_.erase(unread);
      throw;
    }
  }
  return rows_.index_select(0, at::tensor(places, at::kLong).to(rows_.device()));
}

void RowCache::forget() {
  const std::lock_guard guard(mutex_);
  row_of_.clear();
  rows_ = at::Tensor();
}

}  // namespace plumb
