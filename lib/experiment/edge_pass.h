// One run in which receivers read only some edges.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "experiment/edge_outside.h"
#include "model/decoder.h"
#include "plumb/edges.h"

namespace plumb {

/// Of one tile of pairs; safe to use from many threads.
class EdgeRunner {
 public:
  /// `input` is what the clean run embeds, [B, T, d_model]. What is given must outlive it.
  EdgeRunner(const Model& model, const EdgeSpace& space, const at::Tensor& input,
             const OutsideValues& outside);

  /// The stream before the final norm, [B, T, d_model]. `mask` [edges].
  at::Tensor stream(const std::vector<std::uint8_t>& mask) const;

 private:
  friend class EdgePass;
  const Model& model_;
  const EdgeSpace& space_;
  const at::Tensor& input_;
  const OutsideValues& outside_;
  Plan plan_ = {};
  DecoderInputs inputs_;
};

}  // namespace plumb
