// What a model holds, for the forward pass.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "model/weight_store.h"
#include "plumb/cost.h"
#include "plumb/model.h"

namespace plumb {

struct Model::Impl {
  ModelConfig config;  ///< of the blocks that were asked for
  int all_layers = 0;  ///< of the checkpoint
  Source source;
  std::string name;
  std::optional<Checkpoint> checkpoint;
  LoadOptions options;
  /// Memory of the process without weights, as the first run that has a bound finds it.
  mutable std::atomic<std::int64_t> base_bytes = 0;
  mutable WeightStore store;

  Impl(const ModelConfig& whole, Source source, std::string name,
       std::optional<Checkpoint> checkpoint, const LoadOptions& options);

  void check_layer(int layer) const;
  at::Tensor place(const at::Tensor& value) const;

  /// Rows of the embedding [n, d_model] of the ids [n], of which only those are read.
  at::Tensor rows(const at::Tensor& ids) const;
  void forget_rows() const;

  /// What of the weights lies in memory at the same time.
  enum class Fit { all, block, tensor };
  /// Lets the store keep what such a run leaves room for, and says what that is. Throws too_large
  /// where it is not even the largest tensor.
  Fit make_room(const RunCost& cost) const;

 private:
  at::Tensor read(Weight weight, int layer, int expert) const;

  mutable std::once_flag base_found_ = {};
  mutable std::mutex rows_mutex_ = {};
  mutable std::unordered_map<std::int64_t, std::int64_t> row_of_ = {};  ///< id to row of rows_
  mutable at::Tensor rows_ = {};  ///< the first of them are filled
};

/// Beside weights, activations and results: stored bytes that are mapped while a run's thread and
/// the one that reads ahead convert them, buffers of the BLAS.
inline constexpr std::int64_t overhead_bytes = 40'000'000;

/// Memory that this process takes now, in bytes.
std::int64_t resident_bytes();

}  // namespace plumb
