#include "plumb/patch.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "experiment/patch_driver.h"
#include "experiment/patch_starts.h"
#include "experiment/replacements.h"
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

class SweptGroup : public PatchGroup {
 public:
  SweptGroup(const Model& model, const Pairs& pairs, PairRange range,
             const std::vector<SweepSpec>& sweeps, const PatchOptions& options,
             const std::vector<Site>& sites)
      : sweeps_(sweeps),
        experiment_(model, pairs, range, options,
                    start_records(sweeps, model.config(), depth_of(options, model.config())),
                    Replacements::needs_other(options.replacement) ? sites : std::vector<Site>()),
        replacements_(options.replacement, sites, model.config(), experiment_.lengths(),
                      experiment_.base(), experiment_.pasted()),
        starts_(model, experiment_.follower(), experiment_.trunk(), experiment_.base(),
                replacements_, experiment_.fixed()) {
    for (const Site& site : sites) {
      check(model, experiment_.tokens(), {.interventions = {replacements_.edit({.site = site})}});
    }
  }

  const PatchExperiment& experiment() const override { return experiment_; }

  at::Tensor values(const PatchJob& job, std::int64_t& evaluations) const override {
    const SweepSpec& spec = sweeps_[job.sweep];
    const auto items = static_cast<std::int64_t>(job.items.size());
    const int last = experiment_.depth() - 1;
    const bool in_block = experiment_.reads_site();
    const bool too_late =
        job.layer > last || (spec.sets.empty() && job.layer == last && in_block &&
                             per_layer(spec.part) && spec.part > experiment_.site().part);
    if (too_late) return experiment_.unpatched(items).t();
    std::vector<at::Tensor> found;  // [B, n] of one item after another
    const int enter = starts_.entry(spec, job);
    if (in_block && enter > last) {
      for (const PatchItem& item : job.items) {
        found.push_back(experiment_.read_site(starts_.run_whole(
            spec, job.layer, item, experiment_.depth(), experiment_.site(), evaluations)));
      }
    } else {
      found = experiment_.read_branches(enter, starts_.make(spec, job, evaluations), evaluations);
    }
    return at::cat(found, 1).t();
  }

 private:
  const std::vector<SweepSpec>& sweeps_;
  PatchExperiment experiment_;
  Replacements replacements_;
  PatchStarts starts_;
};

}  // namespace

PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options, const Progress& progress, const Tiles& tiles) {
  if (sweeps.empty()) throw Error(ErrorKind::bad_argument, "expected at least one sweep, got none");
  const ModelConfig& config = model.config();
  for (const SweepSpec& spec : sweeps) check_sweep(spec, config);
  check_experiment(model, pairs, options);
  check_sets(model, tokens_of(pairs, base_of(pairs, options.direction)), sweeps, options.metric);
  const std::vector<Site> sites = patched_sites(sweeps, config, depth_of(options, config));
  const bool embeds = std::ranges::any_of(sites, [](Site site) { return !per_layer(site.part); });
  for (const FixedEdit& edit : options.with) {
    if (embeds && edit.at.site == Site{Part::resid_pre, 0}) {
      throw Error(ErrorKind::unsupported,
                  "embeddings are patched before the stream that L0.resid_pre edits in every run; "
                  "edit embed there instead");
    }
  }
  return drive({.model = model,
                .pairs = pairs,
                .sweeps = sweeps,
                .options = options,
                .make_group =
                    [&](PairRange range) {
                      return std::make_unique<SweptGroup>(model, pairs, range, sweeps, options,
                                                          sites);
                    }},
               progress, tiles);
}

}  // namespace plumb
