// Where patched runs leave the plain one: the streams that a pasted value makes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

/// One site to paste at; -1 = all positions, all heads.
struct PatchItem {
  std::int64_t position = -1;
  std::int64_t head = -1;
  std::int64_t from() const {
    return position < 0 ? 0 : position;
  }  ///< first position that differs
};

/// Entries along the head axis of a part: heads, key heads, or 0 where it has none.
std::int64_t heads_of(Part part, const ModelConfig& config);

/// Adds what the starts of the sweeps need to the two plain runs' plans.
void add_start_records(const std::vector<SweepSpec>& sweeps, const ModelConfig& config, Plan& base,
                       Plan& other);

class PatchStarts {
 public:
  /// `base` and `other` are what the two plain runs recorded.
  PatchStarts(const Follower& follower, const Trunk& trunk, const Cache& base, const Cache& other,
              const ModelConfig& config)
      : follower_(follower), trunk_(trunk), base_(base), other_(other), config_(config) {}

  /// Items that share their first position, and are neighbours, make one branch: how many each.
  static std::vector<std::int64_t> groups(const std::vector<PatchItem>& items);

  /// The branches of the items and the layer they enter. Adds what it ran to `evaluations`.
  std::pair<int, std::vector<Branch>> make(Part part, int layer,
                                           const std::vector<PatchItem>& items,
                                           std::int64_t& evaluations) const;

 private:
  at::Tensor pasted(Part part, int layer, const PatchItem& item) const;
  at::Tensor changed_mid(Part part, int layer, const PatchItem& item) const;
  at::Tensor after_any_edit(Part part, int layer, const PatchItem& item) const;

  const Follower& follower_;
  const Trunk& trunk_;
  const Cache& base_;
  const Cache& other_;
  const ModelConfig& config_;
};

}  // namespace plumb
