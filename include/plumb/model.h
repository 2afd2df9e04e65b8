// A decoder: switches, and weights that are read when first needed.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "plumb/checkpoint.h"
#include "plumb/config.h"
#include "plumb/site.h"

namespace plumb {

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  ///< arithmetic: kFloat or kDouble
  at::Device device = at::Device(at::kCPU);
  int threads = 0;  ///< 0 = one per physical core
};

/// A decoder-only language model. Cheap to copy (shared, immutable); safe to use from many threads.
class Model {
 public:
  /// Where weights come from: canonical shape, any floating dtype. Called at most once per weight.
  using Source = std::function<at::Tensor(Weight weight, int layer)>;

  Model(const Checkpoint& checkpoint, const LoadOptions& options = {});
  /// A model made in memory. `name` stands for the file's name in reports.
  Model(const ModelConfig& config, Source source, std::string name,
        const LoadOptions& options = {});

  const ModelConfig& config() const;
  const std::string& name() const;
  std::string sha256() const;  ///< of the checkpoint; empty for a model made in memory
  at::ScalarType dtype() const;
  at::Device device() const;
  int threads() const;

  /// The weight in the model's dtype on its device, read at its first use and then kept.
  /// Undefined if the model has no such weight (a bias, say). `unembed` of a tied model is `embed`.
  const at::Tensor& weight(Weight weight, int layer = 0) const;

  /// One expert's part of a weight that `is_per_expert`, without the axis of the experts, read at
  /// its first use and then kept: experts that no token visits are not read. Of a model made in
  /// memory, a view of the whole weight. Undefined if the model has no such weight.
  at::Tensor expert_weight(Weight weight, int layer, int expert) const;

  struct Impl;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Whether the decoder's blocks have this part: of one layer, where it is a part of layers.
bool has_part(const ModelConfig& config, Part part, int layer = 0);

/// Opens a checkpoint and makes a model of it: nothing is read until it is needed.
Model load(const std::filesystem::path& checkpoint, const LoadOptions& options = {});

}  // namespace plumb
