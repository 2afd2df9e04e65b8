#include "plumb/path_patch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <string>

#include "experiment/patch_driver.h"
#include "experiment/patch_starts.h"
#include "experiment/path_check.h"
#include "experiment/path_cost.h"
#include "experiment/path_walk.h"
#include "experiment/replacements.h"
#include "model/tap.h"
#include "plumb/error.h"
#include "plumb/patch_cost.h"

namespace plumb {
namespace {

// Tells experiments apart.
std::string words(const Paths& paths) {
  std::string text = std::string("paths ") + to_string(paths.mlps);
  std::vector<std::vector<SlicedSite>> hops = paths.via;
  hops.push_back(paths.receivers);
  for (const auto& hop : hops) {
    text += ";";
    for (const SlicedSite& site : hop) text += " " + to_string(site);
  }
  return text;
}

class PathGroup : public PatchGroup {
 public:
  PathGroup(const Model& model, const Pairs& pairs, PairRange range,
            const std::vector<SweepSpec>& senders, const Paths& paths, const PatchOptions& options,
            const std::vector<Site>& sites, const std::vector<Record>& records)
      : senders_(senders),
        paths_(paths),
        experiment_({.model = model}, pairs, range, options, records,
                    Replacements::needs_other(options.replacement) ? sites : std::vector<Site>()),
        replacements_(options.replacement, sites, model.config(), experiment_.lengths(),
                      experiment_.base(), experiment_.pasted()),
        walk_(model, experiment_.follower(), experiment_.trunk(), experiment_.base(), replacements_,
              paths.mlps) {}

  const PatchExperiment& experiment() const override { return experiment_; }

  at::Tensor values(const PatchJob& job, std::int64_t& evaluations) const override {
    const SweepSpec& spec = senders_[job.sweep];
    if (job.layer >= experiment_.depth())
      return experiment_.unpatched(static_cast<std::int64_t>(job.items.size())).t();
    const at::Tensor& plain = experiment_.trunk().resid_pre.front();
    const std::int64_t most = streams_at_once(plain.size(0), plain.size(1));
    std::vector<at::Tensor> values;
    std::size_t item = 0;
    for (std::int64_t left : branch_sizes(job.items)) {
      while (left > 0) {
        const std::int64_t n = std::min(left, most);
        std::vector<std::vector<at::Tensor>> arrived;
        for (std::int64_t i = 0; i < n; ++i, ++item)
          arrived.push_back(receive(sites_of(spec, job.layer, job.items[item]), evaluations));
        values.push_back(last_run(arrived, job.items[item - 1].from, evaluations));
        left -= n;
      }
    }
    return at::cat(values, 1).t();
  }

 private:
  // What arrives at each receiver when the senders are patched.
  std::vector<at::Tensor> receive(const std::vector<SlicedSite>& senders,
                                  std::int64_t& evaluations) const {
    Changes changes = walk_.send(senders);
    for (const auto& hop : paths_.via) {
      const auto arrived = walk_.arrive(changes, hop, evaluations);
      changes = walk_.pass_on(changes, hop, arrived, evaluations);
    }
    return walk_.arrive(changes, paths_.receivers, evaluations);
  }

  // The runs in which what arrived is pasted, n items side by side: [B, n].
  at::Tensor last_run(const std::vector<std::vector<at::Tensor>>& arrived, std::int64_t from,
                      std::int64_t& evaluations) const {
    const auto n = static_cast<std::int64_t>(arrived.size());
    std::vector<Intervention> edits;
    for (std::size_t i = 0; i < paths_.receivers.size(); ++i) {
      if (!arrived.front()[i].defined()) continue;
      std::vector<at::Tensor> each;
      for (const auto& item : arrived) each.push_back(item[i]);
      SlicedSite receiver = paths_.receivers[i];
      if (receiver.site.part == Part::logits) receiver.site.part = Part::resid_final;
      if (const auto edit = PathWalk::paste(receiver, at::stack(each, 1).flatten(0, 1), from))
        edits.push_back(*edit);
    }
    if (edits.empty()) return experiment_.unpatched(n);
    const auto copies = [&](const at::Tensor& plain) {
      return plain.unsqueeze(1).expand({-1, n, -1, -1}).flatten(0, 1);
    };
    const auto branch = [&](const at::Tensor& stream) {
      return std::vector<Branch>{{.from = from,
                                  .stream = stream.view({-1, n, stream.size(1), stream.size(2)})
                                                .narrow(2, from, stream.size(1) - from)}};
    };
    const Trunk& trunk = experiment_.trunk();
    const auto after = static_cast<int>(trunk.resid_pre.size()) - 1;
    if (edits.front().site.part == Part::resid_final) {
      const Plan plan{.interventions = edits};
      const plumb::Tile tile{};
      const at::Tensor plain = copies(trunk.resid_pre.back());
      const at::Tensor stream = Tap(plan, tile, plain.size(0)).edit({Part::resid_final}, plain);
      return experiment_.read_branches(after, branch(stream), evaluations).front();
    }
    int first = after;
    int last = 0;
    for (const Intervention& edit : edits) {
      first = std::min(first, edit.site.layer);
      last = std::max(last, edit.site.layer);
    }
    const at::Tensor stream = copies(trunk.resid_pre[static_cast<std::size_t>(first)]);
    const bool reads = experiment_.reads_site() && last + 1 == experiment_.depth();
    const Site wanted = reads ? experiment_.site() : Site{Part::resid_post, last};
    evaluations += stream.size(0) * stream.size(1) * (last + 1 - first);
    const at::Tensor found =
        experiment_.follower().blocks(first, last + 1, stream, edits, {Record(wanted)}).at(wanted);
    if (reads) return experiment_.read_site(found);
    return experiment_.read_branches(last + 1, branch(found), evaluations).front();
  }

  const std::vector<SweepSpec>& senders_;
  const Paths& paths_;
  PatchExperiment experiment_;
  Replacements replacements_;
  PathWalk walk_;
};

// An experiment that fits the model. What it is made of must outlive it.
DrivenExperiment along(const Model& model, const Pairs& pairs,
                       const std::vector<SweepSpec>& senders, const Paths& paths,
                       const PatchOptions& options) {
  if (senders.empty())
    throw Error(ErrorKind::bad_argument, "expected at least one sweep of senders, got none");
  if (!options.with.empty()) {
    throw Error(ErrorKind::unsupported,
                "path patching does not go with edits that are made in every run");
  }
  const ModelConfig& config = model.config();
  for (const SweepSpec& spec : senders) check_sweep(spec, config);
  check_experiment(model, pairs, options);
  const Tokens& tokens = tokens_of(pairs, base_of(pairs, options.direction));
  check_paths(model, tokens, senders, paths, options.metric);
  const bool direct = !per_layer(paths.receivers.front().site.part);
  DrivenExperiment asked{
      .model = model,
      .pairs = pairs,
      .sweeps = senders,
      .options = options,
      .what = words(paths),
      .naive_runs = 2 * static_cast<std::int64_t>(paths.via.size()) + (direct ? 1 : 2)};
  asked.sites = patched_sites(senders, config, depth_of(options, config));
  asked.records = PathWalk::records(asked.sites, paths, config);
  asked.job_cost = [&, T = tokens.length()](const PatchJob& job, std::int64_t count) {
    return path_job_cost(model, options, senders[job.sweep], paths, job, count, T);
  };
  asked.make_group = [&, sites = asked.sites, records = asked.records](PairRange range) {
    return std::make_unique<PathGroup>(model, pairs, range, senders, paths, options, sites,
                                       records);
  };
  return asked;
}

}  // namespace

PatchReport path_patch(const Model& model, const Pairs& pairs,
                       const std::vector<SweepSpec>& senders, const Paths& paths,
                       const PatchOptions& options, const Progress& progress, const Tiles& tiles) {
  PatchReport report = drive(along(model, pairs, senders, paths, options), progress, tiles);
  report.paths = paths;
  return report;
}

RunCost foresee_path_patch(const Model& model, const Pairs& pairs,
                           const std::vector<SweepSpec>& senders, const Paths& paths,
                           const PatchOptions& options) {
  return foresee_cost(along(model, pairs, senders, paths, options));
}

}  // namespace plumb
