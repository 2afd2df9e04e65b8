// The runs of one group of pairs that patched runs branch off, and what is read off those.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "experiment/patch_jobs.h"
#include "experiment/patch_metric.h"
#include "experiment/patch_routes.h"
#include "model/follow.h"
#include "plumb/patch.h"
#include "plumb/tapped.h"

namespace plumb {

/// Throws bad_argument where pairs, options and model do not fit each other.
void check_experiment(const Model& model, const Pairs& pairs, const PatchOptions& options);

/// Which run is patched.
Which base_of(const Pairs& pairs, Direction direction);

/// The unpatched run, and the other one, without fixed edits.
struct PlainPlans {
  Plan base = {};
  Plan other = {};
};
PlainPlans plain_plans(const ModelConfig& config, const PatchOptions& options,
                       const std::vector<Record>& records, const std::vector<Site>& pasted);
/// What the values of fixed edits are read off, before the two.
PlainPlans fixed_plans(const ModelConfig& config, const PatchOptions& options);

/// What is run: plumb's decoder, or somebody else's forward pass, of which nothing can be left out.
struct PatchSubject {
  const Model& model;  ///< of a tapped model, the one that has its sizes
  const TappedModel* tapped = nullptr;
  Run run(const Tokens& tokens, const Plan& plan) const;
};

class PatchExperiment {
 public:
  /// Makes the unpatched run of the pairs in the range, recording `records`, and the other one,
  /// recording the sites `pasted`. Of the decoder's, a trunk is kept.
  PatchExperiment(const PatchSubject& subject, const Pairs& pairs, PairRange range,
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
  /// The metric of one whole run of the pairs that recorded `watched`, [B, 1].
  at::Tensor read_run(const Run& run) const;
  Record watched() const;
  /// The unpatched run's metric for n items.
  at::Tensor unpatched(std::int64_t n) const;

  const at::Tensor& base_metric() const { return base_metric_; }    ///< [B] float64
  const at::Tensor& other_metric() const { return other_metric_; }  ///< [B] float64
  std::int64_t evaluations() const { return evaluations_; }         ///< of the unpatched runs

 private:
  void make_fixed(Which other);
  Record kept_at(const ReadPlan& reads) const;
  Readout readout() const;
  Cache moved(const Cache& other, const std::vector<Site>& sites, const Cache& own) const;

  const PatchSubject subject_;
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
