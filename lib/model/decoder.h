// The one forward pass.
#pragma once

#include "model/rope.h"
#include "model/tap.h"
#include "plumb/model.h"

namespace plumb {

/// What all tiles of one run share.
struct DecoderInputs {
  const Model& model;
  const Plan& plan;
  RopeTable rope = {};         ///< where the model rotates
  RopeTable window_rope = {};  ///< where layers with a window rotate in their own way
  at::Tensor positions = {};   ///< [T] int64
  bool lone = false;           ///< the run has one tile: share its matrix products among threads
};

/// Runs one tile, calling `tap` at every site. Returns the logits [b, T, vocab], or an undefined
/// tensor where the plan wants none. `stream` is the stream to restart from, if the plan restarts;
/// `out`, if defined, is where the logits are written.
at::Tensor decode(const DecoderInputs& inputs, const Tile& tile, const at::Tensor& stream,
                  const at::Tensor& out, Tap& tap);

}  // namespace plumb
