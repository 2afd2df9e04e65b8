// The one forward pass.
#pragma once

#include <memory>
#include <utility>

#include "model/back_rules.h"
#include "model/rope.h"
#include "model/tap.h"
#include "plumb/model.h"

namespace plumb {

/// What all tiles of one run share.
struct DecoderInputs {
  const Model& model;
  const Plan& plan;
  RopeTable rope = {};         ///< of the layers, where the model rotates
  RopeTable window_rope = {};  ///< where layers with a window rotate in their own way
  at::Tensor positions = {};   ///< [T] int64
  bool lone = false;           ///< the run has one tile: share its matrix products among threads
  BackRules rules = {};        ///< of passes that are differentiated
};

/// One tile's way through the model, calling `tap` at every site. What it is made of must outlive
/// it; the tile's `ids` are those to embed.
class TilePass {
 public:
  TilePass(const DecoderInputs& inputs, const Tile& tile, Tap& tap);
  ~TilePass();
  TilePass(const TilePass&) = delete;
  TilePass& operator=(const TilePass&) = delete;

  /// Begins with the embedding, or with `stream` if the plan restarts.
  void begin(const at::Tensor& stream);
  void block(int layer);
  /// The logits [b, T, vocab], or an undefined tensor where the plan wants none. `out`, if defined,
  /// is where they are written.
  at::Tensor end(const at::Tensor& out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// All of it, one block after another.
at::Tensor decode(const DecoderInputs& inputs, const Tile& tile, const at::Tensor& stream,
                  const at::Tensor& out, Tap& tap);

/// The blocks that the plan runs: from the first to before the second.
std::pair<int, int> blocks_of(const DecoderInputs& inputs);

/// Nobody reads the MLP of the last block of a run that stops there, unless the plan does.
bool ends_with_attention(const Plan& plan, int layer);

}  // namespace plumb
