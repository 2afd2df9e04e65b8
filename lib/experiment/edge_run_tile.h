// One tile of pairs: its plain runs, and the metric of sets of edges.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "experiment/edge_outside.h"
#include "experiment/edge_pass.h"
#include "experiment/patch_metric.h"
#include "model/follow.h"
#include "plumb/edge_run.h"

namespace plumb {

/// The pairs as they are run: their `clean` prompts are those of the edges that are in.
Pairs run_pairs(const Pairs& pairs, const EdgeRunOptions& options);

class EdgeRunTile {
 public:
  /// Makes the plain runs of `count` pairs from `first` on, and tells `found` of them; `outside` is
  /// of `run_pairs`. What is given must outlive it, but for pairs and `outside`.
  EdgeRunTile(const Model& model, const EdgeSpace& space, const EdgeEnds& ends, const Pairs& pairs,
              std::int64_t first, std::int64_t count, const EdgeRunOptions& options,
              const Outside& outside, EdgeRuns& found);
  EdgeRunTile(const EdgeRunTile&) = delete;
  EdgeRunTile& operator=(const EdgeRunTile&) = delete;

  std::vector<std::uint8_t> leads(const std::vector<std::uint8_t>& mask) const {
    return runner_->leads(mask);
  }
  EdgeWrites writes(const std::vector<std::uint8_t>& mask) const { return runner_->writes(mask); }
  /// The metric [count] of the set, as `EdgeRunner::run`.
  at::Tensor value(const std::vector<std::uint8_t>& mask, EdgeWrites& writes, int from,
                   std::atomic<std::int64_t>& work) const;

 private:
  std::int64_t first_difference(const EdgeRunOptions& options) const;
  at::Tensor metric_of(const at::Tensor& value, Which which) const;
  at::Tensor of_plain(const Run& run, Which which) const;
  void make_plain(const Model& model, const Outside& outside, std::int64_t first, EdgeRuns& found);

  const EdgeRunOptions& options_;
  Pairs pairs_;
  Pairs runs_;  // clean are those in which edges that are in are run
  std::optional<Site> site_ = {};
  EdgeSpan span_ = {};
  at::Tensor input_ = {};
  OutsideValues outside_ = {};
  Trunk trunk_ = {};
  std::optional<Follower> follower_ = {};
  std::optional<LogitMetric> metric_ = {};
  std::optional<EdgeRunner> runner_ = {};
};

}  // namespace plumb
