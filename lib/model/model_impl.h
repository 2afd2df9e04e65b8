// What a model holds, for the forward pass.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>

#include "model/row_cache.h"
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

  /// Rows [n, d_model] of the embedding, or of the unembedding, for the ids [n]: of the table if it
  /// is here, else those alone are read.
  at::Tensor rows(Weight table, const at::Tensor& ids) const;

  /// Bytes that lie in memory beside what a run is foreseen to take.
  class Reserved {
   public:
    Reserved(const Model& model, std::int64_t bytes)
        : total_(model.impl().reserved), bytes_(bytes) {
      total_ += bytes_;
    }
    ~Reserved() { total_ -= bytes_; }
    Reserved(const Reserved&) = delete;
    Reserved& operator=(const Reserved&) = delete;

   private:
    std::atomic<std::int64_t>& total_;
    std::int64_t bytes_;
  };
  mutable std::atomic<std::int64_t> reserved = 0;

  /// What of the weights lies in memory at the same time.
  enum class Fit { all, block, tensor };
  /// Lets the store keep what such a run leaves room for, and says what that is. Throws too_large
  /// where it is not even the largest tensor.
  Fit make_room(const RunCost& cost) const;
  /// Memory of the process without weights, activations and results.
  std::int64_t program_bytes() const;

 private:
  at::Tensor read(Weight weight, int layer, int expert) const;
  at::Tensor read_rows(Weight weight, const std::vector<std::int64_t>& ids) const;

  mutable std::once_flag base_found_ = {};
  mutable RowCache embed_rows_;
  mutable RowCache unembed_rows_;
};

/// Beside weights, activations and results: stored bytes that are mapped while a run's thread and
/// the one that reads ahead convert them, buffers of the BLAS.
inline constexpr std::int64_t overhead_bytes = 40'000'000;

/// Memory that this process takes now, in bytes.
std::int64_t resident_bytes();

}  // namespace plumb
