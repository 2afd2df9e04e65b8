#include "experiment/patch_group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <utility>

namespace plumb {

PatchGroup::PatchGroup(const Model& model, const Pairs& pairs, PairRange range,
                       const std::vector<SweepSpec>& sweeps, const PatchOptions& options)
    : pairs_(some_of(pairs, range.first, range.count)),
      runs_(plain_runs(model, sweeps, options)),
      trunk_(make_trunk(model.config(), runs_.base.cache)),
      reads_(pairs_.reads.to(model.device())),
      follower_(model, trunk_, reads_),
      starts_(follower_, trunk_, runs_.base.cache, runs_.other.cache, model.config()),
      metric_(options.metric, pairs_, follower_,
              at_reads(options.direction == Direction::denoising
                           ? runs_.other.cache.at({Part::resid_final})
                           : trunk_.resid_pre.back())
                  .squeeze(1),
              range.first),
      base_metric_(metric_(at_reads(trunk_.resid_pre.back())).squeeze(1)),
      other_metric_(metric_(at_reads(runs_.other.cache.at({Part::resid_final}))).squeeze(1)),
      evaluations_(runs_.base.evaluations + runs_.other.evaluations) {}

at::Tensor PatchGroup::values(Part part, const PatchJob& job, std::int64_t& evaluations) const {
  const c10::AutoGradMode no_gradients(false);
  auto [layer, branches] = starts_.make(part, job.layer, job.items, evaluations);
  std::vector<at::Tensor> values;  // [n, items of a branch]
  for (const at::Tensor& stream : follower_.finish(layer, std::move(branches), evaluations))
    values.push_back(metric_(stream).cpu());
  return at::cat(values, 1).t().contiguous();
}

PatchGroup::PlainRuns PatchGroup::plain_runs(const Model& model,
                                             const std::vector<SweepSpec>& sweeps,
                                             const PatchOptions& options) const {
  const bool denoising = options.direction == Direction::denoising;
  Plan base_plan{.record = trunk_records(model.config()), .logits = Logits::none};
  Plan other_plan{.record = {Site{Part::resid_final}}, .logits = Logits::none};
  add_start_records(sweeps, model.config(), base_plan, other_plan);
  return {.base = run(model, denoising ? pairs_.corrupt : pairs_.clean, base_plan),
          .other = run(model, denoising ? pairs_.clean : pairs_.corrupt, other_plan)};
}

// [n, 1, d_model]
at::Tensor PatchGroup::at_reads(const at::Tensor& stream) const {
  const at::Tensor index = reads_.view({-1, 1, 1}).expand({stream.size(0), 1, stream.size(2)});
  return stream.gather(1, index);
}

}  // namespace plumb
