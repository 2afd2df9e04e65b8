// Where patched runs leave the unpatched one: the streams that a patched site makes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "experiment/patch_jobs.h"
#include "experiment/patch_routes.h"
#include "experiment/replacements.h"
#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

/// What the starts of the sweeps need of the unpatched run, of its first `depth` blocks.
std::vector<Record> start_records(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                  int depth);
/// Every site of the first `depth` blocks that the sweeps patch.
std::vector<Site> patched_sites(const std::vector<SweepSpec>& sweeps, const ModelConfig& config,
                                int depth);

class PatchStarts {
 public:
  /// `base` is what the unpatched run recorded, under the `fixed` edits.
  PatchStarts(const Model& model, const Follower& follower, const Trunk& trunk, const Cache& base,
              const Replacements& replacements, const std::vector<Intervention>& fixed,
              const PatchRoutes& routes);

  /// The branches of the items. Adds what it ran to `evaluations`.
  std::vector<Branch> make(const SweepSpec& spec, const PatchJob& job,
                           std::int64_t& evaluations) const;

  /// Runs the blocks from the item's to before `until` on whole sequences under its edits and the
  /// fixed ones, and records a site.
  at::Tensor run_whole(const SweepSpec& spec, int layer, const PatchItem& item, int until,
                       Site record, std::int64_t& evaluations) const;

 private:
  struct Values {
    at::Tensor plain = {};
    at::Tensor edited = {};
  };
  Values values(const SlicedSite& at) const;
  at::Tensor rows(const at::Tensor& whole, const SlicedSite& at) const;
  at::Tensor of_stream(const SlicedSite& at) const;
  at::Tensor of_mid(const SlicedSite& at) const;
  at::Tensor edited_z(const SlicedSite& at) const;
  at::Tensor attended(const SlicedSite& at) const;
  at::Tensor neuron_change(const SlicedSite& at) const;
  std::vector<at::Tensor> through_mlp(int layer, const std::vector<SlicedSite>& sites,
                                      const std::vector<at::Tensor>& mids,
                                      std::int64_t& evaluations) const;

  const Model& model_;
  const Follower& follower_;
  const Trunk& trunk_;
  const Cache& base_;
  const Replacements& replacements_;
  const std::vector<Intervention>& fixed_;
  const PatchRoutes& routes_;
};

}  // namespace plumb
