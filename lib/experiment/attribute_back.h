// Gradients of a metric at what the heads and the MLP of a block read, pulled back block by block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "experiment/attribute_tile.h"
#include "model/attention.h"
#include "model/pass.h"
#include "model/tap.h"

namespace plumb {

/// Where the gradients of a block's receivers come from, in d_head. N = b T positions of the tile.
/// That of a head at the stream is
///   scale W'^T part - (hat . W'^T part / d_model) hat,
/// W' being the rows of its weights times the norm's gain (LayerNorm: each less its mean). `q`,
/// `k`, `v` and `gate` hold the scale already, and `*_along` what the last factor of hat is.
struct ReceiverGradient {
  int layer = 0;
  at::Tensor q = {};        ///< [N, H, d_head], at the projections; undefined = 0
  at::Tensor k = {};        ///< [N, K, d_head]
  at::Tensor v = {};        ///< [N, K, d_head]
  at::Tensor gate = {};     ///< [N, H, d_head]; read by the queries' receiver
  at::Tensor q_along = {};  ///< [N, H]
  at::Tensor k_along = {};  ///< [N, K]
  at::Tensor v_along = {};
  at::Tensor hat = {};  ///< [N, d_model] normalised stream, without gain; undefined = no norm
  at::Tensor mlp = {};  ///< [N, d_model], at the stream; undefined = 0
};

/// A component whose write is not what it would be, and does not depend on what it reads.
struct ConstantWrite {
  int layer = -1;
  bool mlp = false;        ///< else attention
  at::Tensor change = {};  ///< [b, T, d_model] added to its write
  bool of(int block, bool of_mlp) const { return layer == block && mlp == of_mlp; }
};

/// A metric of a site of one block: its tensor to [b].
struct SiteReadOut {
  Site site = {};
  std::function<at::Tensor(const at::Tensor& value)> metric = {};
};

/// What reads the stream directly: its gradient, and how many senders have written by then.
struct StreamReader {
  at::Tensor gradient = {};  ///< [b, T, d_model]
  std::int64_t seen = 0;
};

/// What a backward step through a block gives.
struct BlockBack {
  at::Tensor resid_pre = {};  ///< [b, T, d_model] gradient at the stream that enters
  at::Tensor resid_mid = {};  ///< at resid_mid, which is that at attn_out
  ReceiverGradient receivers = {};
  std::optional<StreamReader> read_out = {};  ///< where the read-out reads the stream itself
};

/// Backward passes over one tile. Gradients are of minus the metric, in float32 or float64. Of one
/// thread.
class GradientPass {
 public:
  /// `read`, if not null, is a read-out in the last block that `back` is asked for first.
  GradientPass(const TileModel& model, const SiteReadOut* read);
  GradientPass(const GradientPass&) = delete;
  GradientPass& operator=(const GradientPass&) = delete;

  /// `stream` [b, T, d_model] enters the block; `post` is the gradient at what leaves it, undefined
  /// = 0. The block is run again, with a graph.
  BlockBack back(int layer, const at::Tensor& stream, const at::Tensor& post,
                 const ConstantWrite& constant = {});

 private:
  struct Leaves;
  struct Direct;
  Direct direct(int layer, const Leaves& leaves);
  ReceiverGradient receivers(int layer, const at::Tensor& stream, const Leaves& leaves,
                             const Projections& parts) const;
  at::Tensor through_norm(int layer, const ReceiverGradient& of) const;

  const TileModel& model_;
  const SiteReadOut* read_;
  Plan plan_;
  DecoderInputs inputs_;
  Tile tile_;
  Tap tap_;
  Pass pass_;
  Attention attention_;
};

/// Whether a metric of the site reads the stream itself, and not what heads or an MLP make of it:
/// how many senders have written by then; else 0.
std::int64_t senders_read(const Site& site, const ModelConfig& config);
/// Where the read-out's own view of the stream can be changed.
Site stream_read_by(const Site& site);

/// The weights that heads write with, [H, d_head, d_model], with the gain of the norm on the write.
at::Tensor writing_weights(const Model& model, int layer);

}  // namespace plumb
