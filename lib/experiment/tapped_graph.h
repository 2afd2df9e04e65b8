// One differentiated pass of a tapped model: what its receivers read, and the metric's gradient
// there.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "experiment/patch_metric.h"
#include "experiment/tapped_reach.h"

namespace plumb {

/// A run whose gradient is taken.
struct TappedSample {
  Which which = Which::clean;
  at::Tensor input = {};   ///< [b, T, d_model] in place of the input; undefined = as it is
  Site constant = {};      ///< with `change`: a component's write, which then depends on nothing
  at::Tensor change = {};  ///< [b, T, d_model] added to it
};

class TappedGraph {
 public:
  /// Runs the pass and pulls minus the metric's sum back. `measure` maps what is read of the run
  /// (its site, or logits at the read positions) to [b].
  TappedGraph(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
              const Metric& metric, const TappedSample& sample,
              const std::function<at::Tensor(const at::Tensor& read)>& measure);
  TappedGraph(const TappedGraph&) = delete;
  TappedGraph& operator=(const TappedGraph&) = delete;

  /// Gradients at what the block's receivers read, by their order (queries, keys, values), in the
  /// type of sums, [receivers, N, d_model]; undefined where the block has no heads.
  at::Tensor heads(int layer) const;
  /// Of the MLP, [N, d_model]; undefined = 0.
  at::Tensor mlp(int layer) const;
  /// Of the read-out; undefined = 0.
  at::Tensor read_out() const;

  /// Throws bad_argument where something that is not tapped reads the stream that enters the block.
  /// `readers` is the sum of the gradients of those that are, and `after` that of the next stream.
  void check_readers(int layer, const at::Tensor& readers) const;

  std::int64_t evaluations() const { return evaluations_; }

 private:
  const at::Tensor& value(Site site) const { return values_.at(site); }
  at::Tensor gradient(Site site) const;
  at::Tensor flat(const at::Tensor& gradient) const;

  const TappedModel& model_;
  const TappedReach& reach_;
  const Metric& metric_;
  std::map<Site, at::Tensor> values_ = {};     // in the graph
  std::map<Site, at::Tensor> gradients_ = {};  // of minus the metric; absent = 0
  std::int64_t evaluations_ = 0;
};

}  // namespace plumb
