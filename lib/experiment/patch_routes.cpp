#include "experiment/patch_routes.h"

#include <algorithm>

namespace plumb {
namespace {

Way way_of(Part part, const ModelConfig& config) {
  const bool bare = config.norm_place == NormPlace::before;  // the MLP's write meets no norm
  switch (part) {
    case Part::embed:
    case Part::pos_embed:
    case Part::resid_pre:
    case Part::resid_post:
    case Part::mlp_out: return Way::stream;
    case Part::mlp_pre:
    case Part::mlp_up:
    case Part::mlp_post:
    case Part::expert_out:
    case Part::shared_out: return bare ? Way::stream : Way::none;
    case Part::resid_mid:
    case Part::attn_out:
    case Part::head_out:
    case Part::z:
    case Part::pattern: return Way::mid;
    case Part::q:
    case Part::k:
    case Part::v:
    case Part::scores: return config.sink_logits ? Way::none : Way::mid;
    default: return Way::none;
  }
}

}  // namespace

PatchRoutes::PatchRoutes(const ModelConfig& config, const PatchOptions& options)
    : config_(config),
      metric_(options.metric),
      depth_(depth_of(options, config)),
      hides_(options.replacement.kind == ReplacementKind::hide) {
  for (const FixedEdit& edit : options.with) {
    const Site& site = edit.at.site;
    if (per_layer(site.part)) last_fixed_ = std::max(last_fixed_, site.layer);
  }
}

bool PatchRoutes::enters_own_block(Part part) {
  return part == Part::resid_pre || part == Part::embed || part == Part::pos_embed;
}

Way PatchRoutes::way(const SweepSpec& spec, int layer) const {
  if (!spec.sets.empty() || layer <= last_fixed_ || hides_) return Way::none;
  return way_of(spec.part, config_);
}

int PatchRoutes::entry(const SweepSpec& spec, const PatchJob& job) const {
  if (way(spec, job.layer) != Way::none)
    return enters_own_block(spec.part) ? job.layer : job.layer + 1;
  int last = std::max(job.layer, last_fixed_);  // the last block that is run under edits
  for (const PatchItem& item : job.items) {
    for (const SlicedSite& site : sites_of(spec, job.layer, item))
      last = std::max(last, site.site.layer);
  }
  return last + 1;
}

bool PatchRoutes::too_late(const SweepSpec& spec, const PatchJob& job) const {
  const int last = depth_ - 1;
  return job.layer > last || (spec.sets.empty() && job.layer == last && reads_block(metric_) &&
                              per_layer(spec.part) && spec.part > metric_.site.site.part);
}

bool PatchRoutes::reads_on_the_way(const SweepSpec& spec, const PatchJob& job) const {
  return reads_block(metric_) && entry(spec, job) >= depth_;
}

int depth_of(const PatchOptions& options, const ModelConfig& config) {
  return reads_block(options.metric) ? std::min(options.metric.site.site.layer + 1, config.layers)
                                     : config.layers;
}

std::vector<std::int64_t> branch_sizes(const std::vector<PatchItem>& items) {
  std::vector<std::int64_t> counts;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i == 0 || items[i].from != items[i - 1].from) counts.push_back(0);
    ++counts.back();
  }
  return counts;
}

}  // namespace plumb
