// Where a plan meets a forward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "plumb/run.h"

namespace plumb {

/// Entries of `value` (a tensor of `part`) that the slice selects; a view where the slice is made
/// of ranges.
at::Tensor select(const at::Tensor& value, Part part, const Slice& where);

/// One forward pass over one tile of the batch calls this with each tensor it makes and goes on
/// with what comes back. Used by one thread.
class Tap {
 public:
  Tap(const Plan& plan, const Tile& tile, std::int64_t batch);

  /// Whether the plan edits or records the site, so that a pass can skip what nobody asked for.
  bool wants(Site site) const { return work_.contains(site); }
  bool edits(Site site) const;
  /// The records of the site.
  const std::vector<const Record*>& records(Site site) const;
  /// Keeps what a record's reduction comes to, made by other means than from the whole tensor.
  void keep(const Record& record, const at::Tensor& value);
  const Tile& tile() const { return tile_; }

  /// Edits, then records.
  at::Tensor operator()(Site site, const at::Tensor& value);
  /// Edits only: for a site whose tensor is made more than once.
  at::Tensor edit(Site site, const at::Tensor& value) const;

  /// What was recorded. Throws internal if an edit of the plan was never reached.
  Cache take();

 private:
  struct Work {
    std::vector<const Intervention*> interventions;
    std::vector<const Record*> records;
    mutable bool met = false;
  };
  at::Tensor apply(const Intervention& intervention, const at::Tensor& value) const;
  at::Tensor own(const at::Tensor& tensor, const at::Tensor& selected) const;

  std::map<Site, Work> work_;
  const Tile& tile_;
  std::int64_t batch_;
  Cache cache_;
};

}  // namespace plumb
