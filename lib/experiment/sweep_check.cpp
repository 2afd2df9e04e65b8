#include "experiment/sweep_check.h"

#include <fmt/format.h>

#include "experiment/patch_starts.h"
#include "model/plan_check.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Sets are written by hand: their indices are checked, and that the metric is read after them.
void check_sets(const Model& model, const Tokens& tokens, const std::vector<SweepSpec>& sweeps,
                const Metric& metric) {
  for (const SweepSpec& spec : sweeps) {
    for (const SiteSet& set : spec.sets) {
      for (const SlicedSite& site : set.sites) {
        check(model, tokens, {.record = {Record(site.site, site.slice)}});
        if (!reads_block(metric) || !per_layer(site.site.part)) continue;
        const Site& read = metric.site.site;
        if (site.site.layer < read.layer ||
            (site.site.layer == read.layer && site.site.part <= read.part))
          continue;
        throw Error(ErrorKind::bad_argument,
                    fmt::format("set \"{}\": the edit at {} is never reached: the metric reads {} "
                                "before it",
                                set.name, to_string(site), to_string(read)));
      }
    }
  }
}

}  // namespace

DrivenExperiment checked_sweeps(const Model& model, const Pairs& pairs,
                                const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
                                const PatchRoutes& routes) {
  if (sweeps.empty()) throw Error(ErrorKind::bad_argument, "expected at least one sweep, got none");
  for (const SweepSpec& spec : sweeps) check_sweep(spec, model.config());
  check_experiment(model, pairs, options);
  check_sets(model, tokens_of(pairs, base_of(pairs, options.direction)), sweeps, options.metric);
  DrivenExperiment asked{.model = model, .pairs = pairs, .sweeps = sweeps, .options = options};
  asked.sites = patched_sites(sweeps, model.config(), routes.depth());
  return asked;
}

}  // namespace plumb
