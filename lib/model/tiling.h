// How a run cuts its batch: by the shape of the batch alone, so that the bits depend on nothing
// else.
#pragma once

#include <cstdint>

#include "plumb/model.h"
#include "plumb/plan.h"

namespace plumb {

class Tiling {
 public:
  /// `whole`: in one piece.
  Tiling(std::int64_t batch, std::int64_t length, bool whole);

  std::int64_t size() const { return size_; }  ///< sequences of every tile but the last
  std::int64_t count() const { return (batch_ + size_ - 1) / size_; }
  std::int64_t first(std::int64_t tile) const { return tile * size_; }
  std::int64_t sequences(std::int64_t tile) const;

  /// Whole tiles of at most so many sequences together, at least one; 0 = all.
  std::int64_t tiles_in(std::int64_t sequences) const;

 private:
  std::int64_t batch_;
  std::int64_t size_;
};

/// The plan with the end that the model's last block sets.
Plan within(const Model& model, const Plan& plan);

/// Whether the plan wants the tensor after the unembedding at all.
bool needs_logits(const Plan& plan);

}  // namespace plumb
