// Attention of one block, from the stream it reads to what it adds to the stream.
#pragma once

#include "model/pass.h"

namespace plumb {

/// The stream times the weights that read it, with their biases: what q, k, v and, of gated
/// attention, the gate are made of. Each [B, T, heads * d_head]; undefined where it is not needed.
struct Projections {
  at::Tensor q = {};
  at::Tensor k = {};
  at::Tensor v = {};
  at::Tensor gate = {};
};

class Attention {
 public:
  explicit Attention(Pass& pass) : pass_(pass), config_(pass.config()), tap_(pass.tap()) {}

  /// [B, T, d_model] to [B, T, d_model], any norm on the write included.
  at::Tensor operator()(int layer, const at::Tensor& stream);

  // The steps it is made of. All but `pattern` and `score_bias` treat every position by itself.

  /// The stream as queries, keys or values read it, any norm included. `record` is false where the
  /// norm's scale was met before in this block.
  at::Tensor read(int layer, const at::Tensor& stream, Part part, bool record);
  /// Of a normalised stream, all four.
  Projections project(int layer, const at::Tensor& in) const;
  /// z [B, T, H, d_head] of its projections, gate included.
  at::Tensor attend(int layer, Projections projected);
  /// [B, T, H or K, d_head] after QK-norm and rotation.
  at::Tensor queries_or_keys(int layer, const at::Tensor& in, bool queries) const;
  /// The same from what was projected, [B, T, heads d_head]. Of some heads alone where the norm is
  /// not on all at once.
  at::Tensor turned(int layer, at::Tensor projected, bool queries) const;
  /// [B, T, K, d_head]
  at::Tensor values(int layer, const at::Tensor& in) const;
  /// What the products of queries and keys are multiplied by.
  double factor() const;
  // Of narrow q, k and v, scores and pattern are float32, and z is summed in it.

  /// [T, T], or [H, T, T] with alibi: what is added to the scores; -infinity hides a key.
  const at::Tensor& score_bias(int layer, std::int64_t T, const at::Tensor& like);
  /// Attention probabilities of products [B, H, query, key], which it may overwrite.
  at::Tensor pattern(int layer, at::Tensor products, const at::Tensor& bias);
  /// z [B, T, H, d_head] times its gate, where attention is gated.
  at::Tensor gated(int layer, const at::Tensor& z, const at::Tensor& in);
  /// What z [B, T, H, d_head] adds to the stream.
  at::Tensor write(int layer, const at::Tensor& z);

 private:
  bool windowed(int layer) const;
  bool rotates(int layer) const;
  at::Tensor clipped(const at::Tensor& projected) const;
  at::Tensor mix(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
  at::Tensor mix_in_blocks(int layer, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v);
  at::Tensor head_outputs(int layer, const at::Tensor& z) const;

  Pass& pass_;
  const ModelConfig& config_;
  Tap& tap_;
  at::Tensor bias_;      // of the last layer met
  int bias_window_ = 0;  // the window it was made for
};

}  // namespace plumb
