#include "experiment/attribute_metric.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "core/precision.h"
#include "experiment/patch_experiment.h"
#include "plumb/error.h"

namespace plumb {

int metric_depth(const Metric& metric, const ModelConfig& config) {
  return reads_block(metric) ? std::min(metric.site.site.layer + 1, config.layers) : config.layers;
}

void check_gradient_metric(const Model& model, const Pairs& pairs, const Metric& metric) {
  if (!pairs.paired)
    throw Error(ErrorKind::bad_argument,
                "attribution compares clean with corrupt prompts, and these have no partners");
  if (metric.kind == MetricKind::rank)
    throw Error(ErrorKind::bad_argument,
                "the metric rank has no gradient; take logit_diff or log_prob");
  if (!reads_block(metric) && !model.whole())
    throw Error(ErrorKind::bad_argument,
                fmt::format("the metric {} reads logits, and only blocks up to {} were loaded",
                            to_string(metric), model.config().layers - 1));
  check_experiment(model, pairs, {.direction = Direction::noising, .metric = metric});
}

TileMetric::TileMetric(const Model& model, const Pairs& pairs, const Metric& metric,
                       std::int64_t first, const BackRules& rules)
    : model_(model), pairs_(pairs), metric_(metric), depth_(metric_depth(metric, model.config())) {
  const auto options = at::TensorOptions().dtype(model.dtype()).device(model.device());
  trunk_.resid_pre.push_back(at::empty({0, pairs.clean.length(), model.config().d_model}, options));
  if (reads_block(metric)) return;
  follower_.emplace(model, trunk_, at::Tensor(), rules);
  logits_.emplace(metric, pairs, readout_of(*follower_), first);
}

std::optional<SiteReadOut> TileMetric::site(Which which) const {
  if (!reads_block(metric_)) return std::nullopt;
  const at::Tensor lengths = lengths_of(pairs_, which).to(model_.device());
  return SiteReadOut{.site = metric_.site.site, .metric = [this, lengths](const at::Tensor& value) {
                       return site_metric(metric_, value, lengths);
                     }};
}

at::Tensor TileMetric::reads(Which which) const {
  return read_plan(metric_, pairs_, which).positions;
}

at::Tensor TileMetric::at_reads(const at::Tensor& value, Which which) const {
  const at::Tensor at = reads(which).to(value.device());
  return value.gather(1, at.unsqueeze(2).expand({at.size(0), at.size(1), value.size(2)}));
}

at::Tensor TileMetric::read(const at::Tensor& stream, Which which) const {
  return (*logits_)(at_reads(stream, which).unsqueeze(1), read_plan(metric_, pairs_, which))
      .squeeze(1);
}

void TileMetric::compare_with(const at::Tensor& clean) {
  const at::Tensor at = pairs_.reads.to(clean.device()).view({-1, 1, 1});
  logits_->compare_with(clean.gather(1, at.expand({-1, 1, clean.size(2)})).unsqueeze(1));
}

at::Tensor TileMetric::values_of_rows(const at::Tensor& rows, Which which) const {
  return (*logits_)(rows, read_plan(metric_, pairs_, which)).cpu();
}

at::Tensor TileMetric::values_of_site(const at::Tensor& value, Which which, std::int64_t m) const {
  const at::Tensor lengths = lengths_of(pairs_, which).to(value.device()).repeat_interleave(m);
  return site_metric(metric_, value, lengths).view({-1, m}).cpu();
}

at::Tensor TileMetric::values(const at::Tensor& stream, Which which) const {
  const c10::AutoGradMode gradients(false);
  return read(stream, which).cpu();
}

at::Tensor TileMetric::gradient(const at::Tensor& stream, Which which) const {
  const c10::AutoGradMode gradients(true);
  at::Tensor own = widened(stream.detach()).clone();
  own.set_requires_grad(true);
  const at::Tensor value = read(own.to(stream.scalar_type()), which).sum().neg();
  if (!value.requires_grad())
    throw Error(ErrorKind::bad_argument,
                fmt::format("the metric \"{}\" has no gradient: it must be computed by tensor "
                            "operations from the logits that it is given",
                            to_string(metric_)));
  return torch::autograd::grad({value}, {own}).front();
}

}  // namespace plumb
