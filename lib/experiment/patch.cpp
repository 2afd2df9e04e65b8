#include "plumb/patch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>

#include "experiment/patch_cost.h"
#include "experiment/patch_driver.h"
#include "experiment/patch_starts.h"
#include "experiment/replacements.h"
#include "experiment/sweep_check.h"
#include "model/plan_check.h"
#include "plumb/error.h"
#include "plumb/patch_cost.h"

namespace plumb {
namespace {

class SweptGroup : public PatchGroup {
 public:
  SweptGroup(const Model& model, const Pairs& pairs, PairRange range,
             const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
             const std::vector<Site>& sites, const std::vector<Record>& records,
             const PatchRoutes& routes)
      : sweeps_(sweeps),
        routes_(routes),
        experiment_({.model = model}, pairs, range, options, records,
                    Replacements::needs_other(options.replacement) ? sites : std::vector<Site>()),
        replacements_(options.replacement, sites, model.config(), experiment_.lengths(),
                      experiment_.base(), experiment_.pasted()),
        starts_(model, experiment_.follower(), experiment_.trunk(), experiment_.base(),
                replacements_, experiment_.fixed(), routes) {
    for (const Site& site : sites) {
      check(model, experiment_.tokens(), {.interventions = {replacements_.edit({.site = site})}});
    }
  }

  const PatchExperiment& experiment() const override { return experiment_; }

  at::Tensor values(const PatchJob& job, std::int64_t& evaluations) const override {
    const SweepSpec& spec = sweeps_[job.sweep];
    const auto items = static_cast<std::int64_t>(job.items.size());
    if (routes_.too_late(spec, job)) return experiment_.unpatched(items).t();
    std::vector<at::Tensor> found;  // [B, n] of one item after another
    if (routes_.reads_on_the_way(spec, job)) {
      for (const PatchItem& item : job.items) {
        found.push_back(experiment_.read_site(starts_.run_whole(
            spec, job.layer, item, experiment_.depth(), experiment_.site(), evaluations)));
      }
    } else {
      found = experiment_.read_branches(routes_.entry(spec, job),
                                        starts_.make(spec, job, evaluations), evaluations);
    }
    return at::cat(found, 1).t();
  }

 private:
  const std::vector<SweepSpec>& sweeps_;
  const PatchRoutes& routes_;
  PatchExperiment experiment_;
  Replacements replacements_;
  PatchStarts starts_;
};

// What it is made of must outlive it.
DrivenExperiment swept(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                       const PatchOptions& options, const PatchRoutes& routes) {
  DrivenExperiment asked = checked_sweeps(model, pairs, sweeps, options, routes);
  const bool embeds =
      std::ranges::any_of(asked.sites, [](Site site) { return !per_layer(site.part); });
  for (const FixedEdit& edit : options.with) {
    if (embeds && edit.at.site == Site{Part::resid_pre, 0}) {
      throw Error(ErrorKind::unsupported,
                  "embeddings are patched before the stream that L0.resid_pre edits in every run; "
                  "edit embed there instead");
    }
  }
  asked.records = start_records(sweeps, model.config(), routes.depth());
  const std::int64_t T = tokens_of(pairs, base_of(pairs, options.direction)).length();
  asked.job_cost = [&, T](const PatchJob& job, std::int64_t count) {
    return job_cost(model, routes, options, sweeps[job.sweep], job, count, T);
  };
  asked.make_group = [&, sites = asked.sites, records = asked.records](PairRange range) {
    return std::make_unique<SweptGroup>(model, pairs, range, sweeps, options, sites, records,
                                        routes);
  };
  return asked;
}

}  // namespace

PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options, const Progress& progress, const Tiles& tiles) {
  const PatchRoutes routes(model.config(), options);
  return drive(swept(model, pairs, sweeps, options, routes), progress, tiles);
}

RunCost foresee_patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                      const PatchOptions& options) {
  const PatchRoutes routes(model.config(), options);
  return foresee_cost(swept(model, pairs, sweeps, options, routes));
}

}  // namespace plumb
