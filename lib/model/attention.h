// Attention of one block, from the stream it reads to what it adds to the stream.
#pragma once

#include "model/pass.h"

namespace plumb {

class Attention {
 public:
  explicit Attention(Pass& pass) : pass_(pass), config_(pass.config()), tap_(pass.tap()) {}

  /// [B, T, d_model] to [B, T, d_model], any norm on the write included.
  at::Tensor operator()(int layer, const at::Tensor& stream);

 private:
  bool windowed(int layer) const;
  bool rotates(int layer) const;
  at::Tensor read(int layer, const at::Tensor& stream, Part part, bool record);
  at::Tensor queries_or_keys(int layer, const at::Tensor& in, bool queries) const;
  at::Tensor mix(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
  const at::Tensor& score_bias(int layer, std::int64_t T, const at::Tensor& like);
  at::Tensor write(int layer, const at::Tensor& z);
  at::Tensor head_outputs(int layer, const at::Tensor& z) const;

  Pass& pass_;
  const ModelConfig& config_;
  Tap& tap_;
  at::Tensor bias_;      // of the last layer met
  int bias_window_ = 0;  // the window it was made for
};

}  // namespace plumb
