// A decoder: switches, and weights that are read when first needed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "plumb/checkpoint.h"
#include "plumb/config.h"
#include "plumb/site.h"

namespace plumb {

/// Blocks `first` to `last`, both included.
struct LayerRange {
  int first = 0;
  int last = 0;
  bool operator==(const LayerRange&) const = default;
};

struct LoadOptions {
  /// Of weights, the stream and matrix products: kFloat, kDouble, kBFloat16, or kHalf where the
  /// device's LibTorch computes in it. Of the last two, sums, norms, scores and patterns are
  /// float32.
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::Device(at::kCPU);
  int threads = 0;  ///< 0 = one per physical core
  /// The model then ends after block `last`, has no logits unless that is the checkpoint's last,
  /// and runs that restart at `first` or later need no block before it. Left out: every block.
  std::optional<LayerRange> layers = {};
  /// Bytes that the process should keep to; 0 = as many as needed. Where the weights do not fit
  /// beside what a run computes, it goes block by block over the whole batch; blocks are read, used
  /// and dropped, the next one being read meanwhile. Bits do not depend on it. Of one run at a
  /// time; gradients, and models made in memory, keep their weights.
  std::int64_t memory = 0;
};

/// A decoder-only language model. Cheap to copy (shared, immutable); safe to use from many threads.
class Model {
 public:
  /// Where weights come from: canonical shape, any floating dtype. Called at most once per weight.
  using Source = std::function<at::Tensor(Weight weight, int layer)>;

  /// Throws bad_argument if the layers that the options ask for are not there.
  Model(const Checkpoint& checkpoint, const LoadOptions& options = {});
  /// A model made in memory. `name` stands for the file's name in reports.
  Model(const ModelConfig& config, Source source, std::string name,
        const LoadOptions& options = {});

  const ModelConfig& config() const;  ///< `layers` is that of the blocks loaded: `last` + 1
  const std::string& name() const;
  int first_layer() const;  ///< a run can start here; 0 unless `LoadOptions::layers` says else
  int all_layers() const;   ///< of the checkpoint
  bool whole() const;       ///< whether the last block is there, and so the final norm and logits

  /// Of the checkpoint. Empty for a model made in memory, and where reading every byte would be out
  /// of proportion: some blocks were left out, or the files exceed 100 GB.
  std::string sha256() const;
  /// Of the checkpoint's names, shapes and settings alone; empty for a model made in memory.
  std::string headers_sha256() const;
  std::uint64_t bytes_read() const;  ///< `Checkpoint::bytes_read`; 0 for a model made in memory

  at::ScalarType dtype() const;
  at::Device device() const;
  int threads() const;
  std::int64_t memory() const;  ///< `LoadOptions::memory`

  /// The weight in the model's dtype on its device, read at its first use and then kept while it
  /// fits. Undefined if the model has no such weight (a bias, say). `unembed` of a tied model is
  /// `embed`.
  at::Tensor weight(Weight weight, int layer = 0) const;

  /// Rows of the token embedding, [ids..., d_model], for int64 ids of the vocabulary. Reads those
  /// rows alone as long as nobody needed the whole table.
  at::Tensor embed(const at::Tensor& ids) const;

  /// One expert's part of a weight that `is_per_expert`, without the axis of the experts, read at
  /// its first use and then kept: experts that no token visits are not read. Of a model made in
  /// memory, a view of the whole weight. Undefined if the model has no such weight.
  at::Tensor expert_weight(Weight weight, int layer, int expert) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }  ///< for the forward pass

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Whether the decoder's blocks have this part: of one layer, where it is a part of layers.
bool has_part(const ModelConfig& config, Part part, int layer = 0);

/// Opens a checkpoint and makes a model of it: nothing is read until it is needed.
Model load(const std::filesystem::path& checkpoint, const LoadOptions& options = {});

}  // namespace plumb
