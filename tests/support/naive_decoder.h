// The decoder written out plainly in float64: the twin that the engine's forward pass is held
// against.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "plumb/config.h"
#include "plumb/model.h"
#include "plumb/site.h"

namespace plumb::test {

/// What a naive pass keeps, one entry for each layer where there is a list.
struct NaiveRun {
  at::Tensor logits = {};                  ///< [B, T, vocab]
  std::vector<at::Tensor> patterns = {};   ///< [B, H, T, T]
  std::vector<at::Tensor> resid_pre = {};  ///< [B, T, d_model]
  std::vector<at::Tensor> attn_out = {};
  std::vector<at::Tensor> resid_mid = {};
  std::vector<at::Tensor> mlp_post = {};    ///< [B, T, d_mlp]; undefined in sparse layers
  std::vector<at::Tensor> router = {};      ///< [B, T, experts]; undefined in dense layers
  std::vector<at::Tensor> expert_out = {};  ///< [B, T, experts, d_model]; likewise
  std::vector<at::Tensor> mlp_out = {};
  std::vector<at::Tensor> resid_post = {};
};

/// Sees, and may replace by assignment, the tensor of a site before anything reads it. Called for
/// embed, resid_pre, q, k, v, scores, pattern, z_gate, z, head_out where that is asked for,
/// attn_out, resid_mid, mlp_in, mlp_post, router, expert_out, shared_out, mlp_out and resid_post.
/// Autograd can differentiate the pass.
using NaiveHook = std::function<void(const Site& site, at::Tensor& value)>;

struct NaiveOptions {
  NaiveHook hook = {};
  bool heads = false;               ///< sum attn_out over head_out, and hook that
  std::int64_t first_position = 0;  ///< position of the first token: shifts every position
};

/// Runs the decoder on ids [B, T] int64. Handles every switch of ModelConfig. Sequences have equal
/// lengths; of sequences padded on the right, the valid positions are right as they are.
NaiveRun naive_forward(const ModelConfig& config, const Model::Source& weights,
                       const at::Tensor& ids, const NaiveOptions& options = {});

}  // namespace plumb::test
