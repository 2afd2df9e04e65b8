#include "support/naive_patch.h"

#include <ATen/ATen.h>

#include <cmath>

namespace plumb::test {
namespace {

at::Tensor read_logits(const Model& model, const Tokens& tokens, const Pairs& pairs,
                       const Plan& plan) {
  const at::Tensor logits = run(model, tokens, plan).logits;
  std::vector<at::Tensor> rows;
  for (std::int64_t b = 0; b < pairs.count(); ++b)
    rows.push_back(logits[b][pairs.reads[b].item<std::int64_t>()]);
  return at::stack(rows);
}

double relative_entropy(const at::Tensor& p, const at::Tensor& q) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < p.size(0); ++i) {
    const double share = p[i].item<double>();
    if (share > 0.0) sum += share * std::log(share / q[i].item<double>());
  }
  return sum;
}

}  // namespace

at::Tensor naive_metric(const Metric& metric, const Pairs& pairs, const at::Tensor& logits,
                        const at::Tensor& clean_logits) {
  std::vector<double> values;
  for (std::int64_t b = 0; b < pairs.count(); ++b) {
    const at::Tensor row = logits[b].to(at::kDouble);
    const auto right = pairs.right[b].item<std::int64_t>();
    const auto wrong = pairs.wrong[b].item<std::int64_t>();
    const at::Tensor p = at::softmax(row, 0);
    const at::Tensor clean = at::softmax(clean_logits[b].to(at::kDouble), 0);
    switch (metric.kind) {
      case MetricKind::logit_diff:
        values.push_back((row[right] - row[wrong]).item<double>());
        break;
      case MetricKind::log_prob: values.push_back(std::log(p[right].item<double>())); break;
      case MetricKind::prob: values.push_back(p[right].item<double>()); break;
      case MetricKind::rank: values.push_back(row.gt(row[right]).sum().item().toDouble()); break;
      case MetricKind::kl: values.push_back(relative_entropy(clean, p)); break;
      case MetricKind::reverse_kl: values.push_back(relative_entropy(p, clean)); break;
      case MetricKind::js: {
        const at::Tensor middle = 0.5 * (p + clean);
        values.push_back(0.5 * relative_entropy(p, middle) + 0.5 * relative_entropy(clean, middle));
        break;
      }
      case MetricKind::custom:
        values.push_back(
            metric.custom(logits.narrow(0, b, 1), at::tensor({b}, at::kLong)).item<double>());
        break;
    }
  }
  return at::tensor(values, at::kDouble);
}

at::Tensor naive_patch(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                       const PatchOptions& options) {
  const bool denoising = options.direction == Direction::denoising;
  const Tokens& base = denoising ? pairs.corrupt : pairs.clean;
  const Tokens& other = denoising ? pairs.clean : pairs.corrupt;
  const at::Tensor clean_logits = read_logits(model, pairs.clean, pairs, {});
  const auto positions = pairs.length();
  std::vector<std::int64_t> shape;
  std::vector<at::Tensor> results;
  // Goes over the axes in the spec's order, as an odometer does.
  std::vector<std::int64_t> place(spec.axes.size(), 0);
  for (const SweepAxis axis : spec.axes) {
    if (axis == SweepAxis::layer) shape.push_back(model.config().layers);
    if (axis == SweepAxis::position) shape.push_back(positions);
    if (axis == SweepAxis::head) {
      const bool keys = spec.part == Part::k || spec.part == Part::v;
      shape.push_back(keys ? model.config().kv_heads : model.config().heads);
    }
  }
  while (true) {
    Intervention paste{.site = {spec.part, 0}};
    for (std::size_t axis = 0; axis < place.size(); ++axis) {
      if (spec.axes[axis] == SweepAxis::layer) paste.site.layer = static_cast<int>(place[axis]);
      if (spec.axes[axis] == SweepAxis::position) paste.where.positions = {place[axis]};
      if (spec.axes[axis] == SweepAxis::head) paste.where.heads = {place[axis]};
    }
    Record wanted{paste.site, paste.where};
    paste.edit = Put{run(model, other, {.record = {wanted}}).cache.at(paste.site)};
    const at::Tensor logits = read_logits(model, base, pairs, {.interventions = {paste}});
    results.push_back(naive_metric(options.metric, pairs, logits, clean_logits));
    std::size_t axis = place.size();
    while (axis > 0 && ++place[axis - 1] == shape[axis - 1]) place[--axis] = 0;
    if (axis == 0) break;
  }
  shape.push_back(pairs.count());
  return at::stack(results).view(shape);
}

}  // namespace plumb::test
