// One tile of pairs on its way through the model, a block at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/decoder.h"
#include "plumb/run.h"

namespace plumb {

/// Forward passes over b sequences of T positions, without a graph, on the calling thread.
class TileModel {
 public:
  /// `rules`: of passes that are differentiated.
  TileModel(const Model& model, std::int64_t sequences, std::int64_t T,
            const BackRules& rules = {});

  const Model& model() const { return model_; }
  const ModelConfig& config() const { return model_.config(); }
  const BackRules& rules() const { return rules_; }
  /// Of a pass under the plan, which must outlive it.
  DecoderInputs inputs(const Plan& plan) const;
  /// What a tap needs to know of the tile.
  Tile tile() const;

  /// Token embeddings of ids [b, T], as `embed`, and the stream that enters block 0.
  struct Embedded {
    at::Tensor embed = {};
    at::Tensor stream = {};
  };
  Embedded embed(const at::Tensor& ids) const;

  /// Runs one block on the stream that enters it. What is recorded has resid_post with it.
  Cache block(int layer, const at::Tensor& stream, std::vector<Record> records = {},
              std::vector<Intervention> edits = {}) const;

 private:
  const Model& model_;
  std::int64_t sequences_;
  std::int64_t T_;
  BackRules rules_;
  RopeTable rope_ = {};
  RopeTable window_rope_ = {};
  at::Tensor positions_ = {};
};

}  // namespace plumb
