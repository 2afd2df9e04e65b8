// The runs of one group of pairs that patched runs branch off, and what is read off those.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "experiment/patch_jobs.h"
#include "experiment/patch_metric.h"
#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

/// Throws bad_argument where pairs, options and model do not fit each other.
void check_experiment(const Model& model, const Pairs& pairs, const PatchOptions& options);

/// Which run is patched.
Which base_of(const Pairs& pairs, Direction direction);
/// Blocks that matter to the metric.
int depth_of(const PatchOptions& options, const ModelConfig& config);

class PatchExperiment {
 public:
  /// Makes the unpatched run of the pairs in the range, recording `records`, and the other one,
  /// recording the sites `pasted`.
  PatchExperiment(const Model& model, const Pairs& pairs, PairRange range,
                  const PatchOptions& options, const std::vector<Record>& records,
                  const std::vector<Site>& pasted);
  PatchExperiment(const PatchExperiment&) = delete;
  PatchExperiment& operator=(const PatchExperiment&) = delete;

  int depth() const { return depth_; }
  const Tokens& tokens() const { return tokens_of(pairs_, base_which_); }
  /// Valid positions of the unpatched run's sequences.
  at::Tensor lengths() const { return lengths_; }

  const Cache& base() const { return base_.cache; }
  /// What the other run recorded, moved to the unpatched run's positions; where nothing belongs
  /// there, the unpatched run's own values.
  const Cache& pasted() const { return pasted_; }
  const Trunk& trunk() const { return trunk_; }
  const Follower& follower() const { return *follower_; }
  const std::vector<Intervention>& fixed() const { return fixed_; }

  /// Whether the metric reads a site of block `depth() - 1`, and which.
  bool reads_site() const { return reads_block(options_.metric); }
  Site site() const { return options_.metric.site.site; }

  // Each gives float64 [B, n] on the CPU, for the B pairs of the group.
  /// Of streams before the final norm at the read positions [B, n, P, d_model].
  at::Tensor read(const at::Tensor& stream) const;
  /// Of the metric's site in n runs of each sequence, [B n, ...].
  at::Tensor read_site(const at::Tensor& value) const;
  /// The metric of branches that enter block `layer`.
  std::vector<at::Tensor> read_branches(int layer, std::vector<Branch> branches,
                                        std::int64_t& evaluations) const;
  /// The unpatched run's metric for n items.
  at::Tensor unpatched(std::int64_t n) const;

  const at::Tensor& base_metric() const { return base_metric_; }    ///< [B] float64
  const at::Tensor& other_metric() const { return other_metric_; }  ///< [B] float64
  std::int64_t evaluations() const { return evaluations_; }         ///< of the unpatched runs

 private:
  void make_fixed(Which other);
  Cache moved(const Cache& other, const std::vector<Site>& sites, const Cache& own) const;

  const Model& model_;
  Pairs pairs_;
  const PatchOptions& options_;
  int depth_;
  Which base_which_;
  at::Tensor lengths_ = {};
  std::vector<Intervention> fixed_ = {};
  ReadPlan reads_ = {};
  Run base_ = {};
  Cache pasted_ = {};
  Trunk trunk_ = {};
  std::optional<Follower> follower_ = {};
  std::optional<LogitMetric> metric_ = {};
  at::Tensor base_metric_ = {};
  at::Tensor other_metric_ = {};
  std::int64_t evaluations_ = 0;
};

}  // namespace plumb
