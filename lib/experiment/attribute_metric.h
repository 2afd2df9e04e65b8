// A metric, its value and its gradient over one tile of pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "experiment/attribute_back.h"
#include "experiment/patch_metric.h"
#include "model/follow.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"

namespace plumb {

/// Blocks that matter to the metric.
int metric_depth(const Metric& metric, const ModelConfig& config);

/// Throws bad_argument where the metric does not fit, or cannot be differentiated; `pairs` must
/// have partners.
void check_gradient_metric(const Model& model, const Pairs& pairs, const Metric& metric);

class TileMetric {
 public:
  /// `first`: the number of the tile's first pair.
  TileMetric(const Model& model, const Pairs& pairs, const Metric& metric, std::int64_t first,
             const BackRules& rules = {});
  TileMetric(const TileMetric&) = delete;
  TileMetric& operator=(const TileMetric&) = delete;

  /// Blocks that matter.
  int depth() const { return depth_; }
  /// Where the metric reads a site of block `depth() - 1`: that read-out.
  std::optional<SiteReadOut> site(Which which) const;

  /// Of metrics of the logits: the stream before the final norm [b, T, d_model] in the clean run,
  /// which metrics of distributions compare with. Once, before what follows.
  void compare_with(const at::Tensor& clean);
  /// Where those are read, [b, P].
  at::Tensor reads(Which which) const;
  /// [b, T, any] at these positions: [b, P, any].
  at::Tensor at_reads(const at::Tensor& value, Which which) const;
  // Values are float64, on the CPU.
  /// Of m runs of each pair, the stream at the read positions [b, m, P, d_model]: [b, m].
  at::Tensor values_of_rows(const at::Tensor& rows, Which which) const;
  /// Of the site in m runs of each pair, [b m, ...]: [b, m].
  at::Tensor values_of_site(const at::Tensor& value, Which which, std::int64_t m) const;
  /// Of one run, the stream before the final norm: [b].
  at::Tensor values(const at::Tensor& stream, Which which) const;
  /// The gradient of minus the metric at the stream.
  at::Tensor gradient(const at::Tensor& stream, Which which) const;

 private:
  at::Tensor read(const at::Tensor& stream, Which which) const;

  const Model& model_;
  const Pairs& pairs_;
  const Metric& metric_;
  int depth_;
  Trunk trunk_;
  std::optional<Follower> follower_ = {};
  std::optional<LogitMetric> logits_ = {};
};

}  // namespace plumb
