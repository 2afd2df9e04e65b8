#include "plumb/patch_tapped.h"

#include <ATen/ATen.h>

#include <memory>

#include "experiment/patch_driver.h"
#include "experiment/replacements.h"
#include "experiment/sweep_check.h"

namespace plumb {
namespace {

// Whole forward passes, one after another.
class TappedGroup : public PatchGroup {
 public:
  TappedGroup(const TappedModel& model, const Pairs& pairs, PairRange range,
              const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
              const std::vector<Site>& sites, const PatchRoutes& routes)
      : model_(model),
        sweeps_(sweeps),
        routes_(routes),
        experiment_({.model = model.shape(), .tapped = &model}, pairs, range, options,
                    Replacements::needs_base(options.replacement) ? records_of(sites)
                                                                  : std::vector<Record>(),
                    Replacements::needs_other(options.replacement) ? sites : std::vector<Site>()),
        replacements_(options.replacement, sites, model.config(), experiment_.lengths(),
                      experiment_.base(), experiment_.pasted()) {}

  const PatchExperiment& experiment() const override { return experiment_; }

  at::Tensor values(const PatchJob& job, std::int64_t& evaluations) const override {
    const SweepSpec& spec = sweeps_[job.sweep];
    if (routes_.too_late(spec, job))
      return experiment_.unpatched(static_cast<std::int64_t>(job.items.size())).t();
    std::vector<at::Tensor> found;
    for (const PatchItem& item : job.items) {
      Plan plan{.record = {experiment_.watched()},
                .interventions = experiment_.fixed(),
                .logits = Logits::none};
      for (const SlicedSite& site : sites_of(spec, job.layer, item))
        plan.interventions.push_back(replacements_.edit(site));
      const Run run = plumb::run(model_, experiment_.tokens(), plan);
      evaluations += run.evaluations;
      found.push_back(experiment_.read_run(run));
    }
    return at::cat(found, 1).t();
  }

 private:
  static std::vector<Record> records_of(const std::vector<Site>& sites) {
    return {sites.begin(), sites.end()};
  }

  const TappedModel& model_;
  const std::vector<SweepSpec>& sweeps_;
  const PatchRoutes& routes_;
  PatchExperiment experiment_;
  Replacements replacements_;
};

}  // namespace

PatchReport patch(const TappedModel& model, const Pairs& pairs,
                  const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
                  const Progress& progress, const Tiles& tiles) {
  const PatchRoutes routes(model.config(), options);
  DrivenExperiment asked = checked_sweeps(model.shape(), pairs, sweeps, options, routes);
  asked.one_at_a_time = true;
  asked.make_group = [&, sites = asked.sites](PairRange range) {
    return std::make_unique<TappedGroup>(model, pairs, range, sweeps, options, sites, routes);
  };
  return drive(asked, progress, tiles);
}

}  // namespace plumb
