// What edges outside a circuit carry.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plumb/edge_run.h"

namespace plumb {

/// What the senders' writes are replaced by, and the streams if all are. Each broadcasts to the
/// tile's [B, T, ...].
struct OutsideValues {
  at::Tensor input = {};               ///< [B, T, d_model]
  std::vector<at::Tensor> heads = {};  ///< [layers]: z [B, T, H, d_head], or head_out [.., d_model]
  std::vector<at::Tensor> mlps = {};   ///< [layers]: [B, T, d_model]
  std::vector<at::Tensor> pre = {};  ///< [layers + 1]: the stream entering each block, and the last
  std::vector<at::Tensor> mid = {};  ///< [layers]: between attention and MLP
  /// [layers]: keys and values [B, from, K, d_head] before the first position that is run
  std::vector<at::Tensor> past_k = {};
  std::vector<at::Tensor> past_v = {};
};

/// Whether heads' replacements are kept as z: what they write is then linear in it. Not so behind a
/// norm on the write.
bool keeps_z(const ModelConfig& config);

/// Of some of the pairs at a time; means over all pairs are made at the start.
class Outside {
 public:
  Outside(const Model& model, const Pairs& pairs, const Replacement& replacement);

  /// What the plain clean run of a tile has to record.
  std::vector<Record> records() const;
  /// `clean` is that run's cache; `from` the first position that is run, 0 unless the values are
  /// those of the corrupt run. Adds the runs made to `evaluations`.
  OutsideValues values(std::int64_t first, std::int64_t count, const Cache& clean,
                       std::int64_t from, std::int64_t& evaluations) const;
  std::int64_t evaluations() const { return evaluations_; }  ///< of the means

 private:
  OutsideValues of_run(const Tokens& tokens, std::int64_t from, std::int64_t& evaluations) const;
  void add_streams(OutsideValues& values, const Cache& clean) const;
  void make_means();

  const Model& model_;
  const Pairs& pairs_;
  Replacement replacement_;
  at::Tensor donors_ = {};
  OutsideValues means_ = {};  ///< without streams
  std::int64_t evaluations_ = 0;
};

/// Pairs whose runs are held at once, by the experiment's shape alone.
std::int64_t edge_tile(const ModelConfig& config, std::int64_t length);

}  // namespace plumb
