#include "experiment/tapped_reach.h"

#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <string>

#include "experiment/attribute_back.h"
#include "experiment/attribute_metric.h"
#include "plumb/error.h"

namespace plumb {
namespace {

class Looker {
 public:
  Looker(const TappedModel& model, const Pairs& pairs, const Metric& metric,
         const EdgeOptions& options)
      : model_(model), config_(model.config()), pairs_(pairs), metric_(metric), options_(options) {
    const c10::AutoGradMode no_gradients(false);
    const Pairs first = some_of(pairs, 0, 1);
    model.forward(first.clean, [this](Site site, const at::Tensor& value) {
      met_.insert(site);
      return value;
    });
  }

  TappedReach look() const {
    TappedReach reach{.input = input()};
    const int depth = metric_depth(metric_, config_);
    for (int layer = 0; layer < depth; ++layer) {
      need({Part::resid_pre, layer});
      TappedBlock block{.heads = heads(layer)};
      if (block.heads != TappedBlock::Heads::none) {
        for (const Part part : {Part::q, Part::k, Part::v}) need({part, layer});
        block.gated = config_.gated_attention;
        if (block.gated) need({Part::z_gate, layer});
        if (options_.method == EdgeMethod::eap_ig_activations) need({Part::attn_out, layer});
      }
      if (met({Part::mlp_out, layer})) block.mlp_reads = mlp_reads(layer);
      reach.blocks.push_back(block);
    }
    read_out(reach);
    return reach;
  }

 private:
  bool met(Site site) const { return met_.contains(site); }

  void need(Site site, const std::string& why = {}) const {
    if (met(site)) return;
    std::vector<std::string> names;
    for (const Site& known : met_) names.push_back(to_string(known));
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("attribution needs {}, which the forward pass of {} never reaches{}; it "
                    "reaches {}",
                    to_string(site), model_.name(), why, fmt::join(names, ", ")));
  }

  Site input() const {
    if (met({Part::embed})) return {Part::embed};
    if (config_.positions == Positions::learned && pairs_.to_corrupt.defined())
      need({Part::embed}, " (a map moves positions, whose embeddings L0.resid_pre holds)");
    return {Part::resid_pre, 0};
  }

  TappedBlock::Heads heads(int layer) const {
    if (met({Part::head_out, layer})) return TappedBlock::Heads::written;
    bool any = false;
    for (const Part part :
         {Part::q, Part::k, Part::v, Part::scores, Part::pattern, Part::z, Part::attn_out})
      any = any || met({part, layer});
    if (!any) return TappedBlock::Heads::none;
    if (config_.norm_place != NormPlace::before)
      need({Part::head_out, layer}, " (a norm follows attention, so that z alone does not say it)");
    const char* or_else = " (or head_out)";
    need({Part::z, layer}, or_else);
    need({Part::attn_out, layer}, or_else);
    return TappedBlock::Heads::mixed;
  }

  // What the metric reads inside an MLP has a gradient that its write does not.
  bool reads_inside_mlp(int layer) const {
    if (!reads_block(metric_) || metric_.site.site.layer != layer) return false;
    switch (metric_.site.site.part) {
      case Part::ln2_scale:
      case Part::mlp_pre:
      case Part::mlp_up:
      case Part::mlp_post:
      case Part::router:
      case Part::expert_out:
      case Part::shared_out:
      case Part::ln2_post_scale: return true;
      default: return false;
    }
  }

  Site mlp_reads(int layer) const {
    const Site own{Part::mlp_in, layer};
    if (met(own)) return own;
    const Site stream{config_.parallel ? Part::resid_pre : Part::resid_mid, layer};
    if (reads_inside_mlp(layer)) need(own, " (the metric reads inside that MLP)");
    if (!met(stream)) need(own, " (nor resid_mid)");
    return stream;
  }

  void read_out(TappedReach& reach) const {
    if (!reads_block(metric_)) {
      reach.read_out = Site{Part::resid_final};
      if (!met(*reach.read_out)) reach.read_out = Site{Part::resid_post, config_.layers - 1};
      need(*reach.read_out, " (nor resid_final)");
      reach.seen = EdgeSpace(config_).senders();
      return;
    }
    const Site& site = metric_.site.site;
    need(site, " (the metric reads it)");
    reach.seen = senders_read(site, config_);
    if (reach.seen == 0) return;
    reach.read_out = site;
    if (site.part == Part::ln1_scale) reach.read_out = Site{Part::resid_pre, site.layer};
    if (site.part == Part::ln2_scale) {
      need({Part::mlp_out, site.layer});
      reach.read_out = reach.blocks.back().mlp_reads;
    }
  }

  const TappedModel& model_;
  const ModelConfig& config_;
  const Pairs& pairs_;
  const Metric& metric_;
  const EdgeOptions& options_;
  std::set<Site> met_ = {};
};

}  // namespace

TappedReach reach_of(const TappedModel& model, const Pairs& pairs, const Metric& metric,
                     const EdgeOptions& options) {
  return Looker(model, pairs, metric, options).look();
}

}  // namespace plumb
