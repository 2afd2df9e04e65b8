// Runs that agree with a plain run up to some position: only what can differ from it is computed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/branch_rows.h"
#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb {

/// What a plain run over [B, T] tokens leaves for those that branch off it.
struct Trunk {
  /// [layers + 1]: [B, T, d_model]; the last one leaves the last block that was run
  std::vector<at::Tensor> resid_pre = {};
  std::vector<at::Tensor> resid_mid = {};  ///< [layers]: [B, T, d_model]
  std::vector<at::Tensor> mlp_out = {};    ///< [layers]: [B, T, d_model]; only of parallel blocks
  std::vector<at::Tensor> k = {};          ///< [layers]: [B, T, K, d_head]
  std::vector<at::Tensor> v = {};
};

/// The sites whose values a trunk of the first `depth` blocks holds: of all of them, resid_final
/// too; of fewer, the stream that leaves the last one.
std::vector<Record> trunk_records(const ModelConfig& config, int depth);
Trunk make_trunk(const ModelConfig& config, int depth, const Cache& cache);

/// n streams for each sequence of the trunk that differ from it from position `from` on.
struct Branch {
  std::int64_t from = 0;
  at::Tensor stream = {};  ///< [B, n, T - from, d_model]
};

/// The pieces of the forward pass, over rows of any sequences packed together. Safe to use from
/// many threads. Its matrix products run on the calling thread alone.
class Follower {
 public:
  /// `reads` [B, P] int64: the positions of each sequence that are wanted in the end.
  Follower(const Model& model, const Trunk& trunk, at::Tensor reads, const BackRules& rules = {});

  /// What attention adds to the stream, of z [R, H, d_head]: [R, d_model].
  at::Tensor attn_out(int layer, const at::Tensor& z) const;
  /// What the MLP adds to the stream, of the stream it reads [R, d_model].
  at::Tensor mlp_out(int layer, const at::Tensor& stream) const;
  /// q, k or v [n, R, heads, d_head] of the stream [n, R, d_model] that attention reads at the
  /// positions from `from` on.
  at::Tensor read_as(Part part, int layer, const at::Tensor& stream, std::int64_t from) const;
  /// z [B, Q, H, d_head] of queries [B, Q, H, d_head] at the positions from `from` on, of the heads
  /// from `head` on, over all positions of the key heads that these read, k and v [B, T, K,
  /// d_head]. Not of models with sink logits.
  at::Tensor mixed_alone(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         std::int64_t from, std::int64_t head) const;
  /// z [B, n, Q, H, d_head] of attention in which queries, keys or values alone (`part`: q, k or v)
  /// read the branch in place of the trunk: at the branch's positions, or at the read ones, those
  /// before its first standing at that one. The branch reaches to the last position.
  at::Tensor attend_apart(Part part, int layer, const Branch& branch, bool at_reads) const;
  /// Runs blocks `layer` to before `until` on whole sequences under edits of their sites, and
  /// returns what was recorded. `stream` [n, T, d_model] enters the first of them.
  Cache blocks(int layer, int until, const at::Tensor& stream, std::vector<Intervention> edits,
               std::vector<Record> records) const;
  /// Runs the branches from their entry into block `layer` to before block `until`. Adds to
  /// `evaluations` the positions run through each block.
  std::vector<Branch> advance(int layer, int until, std::vector<Branch> branches,
                              std::int64_t& evaluations) const;
  /// Runs the branches from their entry into block `layer` to the end. Returns of each the stream
  /// before the final norm at the read positions, [B, n, P, d_model]: where a read position lies
  /// before `from`, that of the trunk.
  std::vector<at::Tensor> finish(int layer, std::vector<Branch> branches,
                                 std::int64_t& evaluations) const;
  /// Logits [R, vocab] of the stream before the final norm [R, d_model].
  at::Tensor logits(const at::Tensor& stream) const;
  /// The logits of the given tokens alone: `ids` [R, m] gives [R, m].
  at::Tensor logits_of(const at::Tensor& stream, const at::Tensor& ids) const;

 private:
  DecoderInputs inputs(const at::Tensor& rows = {}) const;
  at::Tensor mixed(Rows& rows, int layer, const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, const Branch& branch, const at::Tensor& bias) const;
  at::Tensor whole_block(Rows& rows, int layer, const at::Tensor& x,
                         const std::vector<Branch>& branches) const;
  std::vector<at::Tensor> last_block(Rows& rows, const at::Tensor& x,
                                     const std::vector<Branch>& branches) const;
  std::vector<at::Tensor> at_reads(const at::Tensor& x, const std::vector<Branch>& branches) const;
  at::Tensor final_norm(const at::Tensor& stream) const;

  const Model& model_;
  const Trunk& trunk_;
  at::Tensor reads_;
  BackRules rules_;  // of what is differentiated
  Plan plan_ = {};
  RopeTable rope_ = {};
  RopeTable window_rope_ = {};
  at::Tensor positions_ = {};
};

}  // namespace plumb
