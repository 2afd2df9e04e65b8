#include "support/naive_patch.h"

#include <ATen/ATen.h>

#include <cmath>

namespace plumb::test {
namespace {

const Tokens& tokens_of(const Pairs& pairs, bool clean) {
  return clean ? pairs.clean : pairs.corrupt;
}

std::int64_t length_of(const Pairs& pairs, bool clean, std::int64_t b) {
  return (clean ? pairs.reads : pairs.corrupt_reads)[b].item<std::int64_t>() + 1;
}

bool base_is_clean(const Pairs& pairs, Direction direction) {
  return !pairs.paired || direction == Direction::noising;
}

at::Tensor read_logits(const Model& model, const Pairs& pairs, bool clean, const Plan& plan) {
  const at::Tensor logits = run(model, tokens_of(pairs, clean), plan).logits;
  std::vector<at::Tensor> rows;
  for (std::int64_t b = 0; b < pairs.count(); ++b)
    rows.push_back(logits[b][length_of(pairs, clean, b) - 1]);
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

// The entries of an axis that a slice chooses; all where it names none.
std::vector<std::int64_t> entries(const std::vector<std::int64_t>& chosen, std::int64_t size) {
  if (!chosen.empty()) return chosen;
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < size; ++i) all.push_back(i);
  return all;
}

const std::vector<std::int64_t>& chosen(Axis axis, const Slice& slice) {
  static const std::vector<std::int64_t> none;
  switch (axis) {
    case Axis::position:
    case Axis::query: return slice.positions;
    case Axis::head:
    case Axis::kv_head: return slice.heads;
    case Axis::key: return slice.keys;
    case Axis::expert: return slice.experts;
    case Axis::batch:
    case Axis::scale: return none;
    default: return slice.units;
  }
}

at::Tensor cut(at::Tensor value, Part part, const Slice& slice) {
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    const std::vector<std::int64_t> kept = entries(chosen(axis, slice), value.size(dim));
    value = value.index_select(dim++, at::tensor(kept, at::kLong));
  }
  return value;
}

std::int64_t position_dim(Part part) {
  std::int64_t dim = 0;
  for (const Axis axis : axes(part)) {
    if (axis == Axis::position || axis == Axis::query) return dim;
    ++dim;
  }
  return -1;
}

// The site's own shape, filled with what the replacement says.
at::Tensor replaced(const Model& model, const Pairs& pairs, const Site& site,
                    const Replacement& replacement, Direction direction,
                    const std::vector<Intervention>& fixed) {
  const bool clean = base_is_clean(pairs, direction);
  const auto value_in = [&](bool which) {
    return run(model, tokens_of(pairs, which), {.record = {site}, .interventions = fixed})
        .cache.at(site);
  };
  const at::Tensor base = value_in(clean);
  // Of two examples of one length, the other one.
  if (replacement.kind == ReplacementKind::resample) return base.flip({0});
  const std::int64_t dim = position_dim(site.part);
  const auto row = [&](const at::Tensor& value, std::int64_t b, std::int64_t t) {
    return value[b].select(dim - 1, t);
  };
  at::Tensor made = base.clone();
  const at::Tensor& map = clean ? pairs.to_corrupt : pairs.to_clean;
  const at::Tensor other = replacement.kind == ReplacementKind::other ? value_in(!clean) : base;
  for (std::int64_t b = 0; b < pairs.count(); ++b) {
    for (std::int64_t t = 0; t < base.size(dim); ++t) {
      if (replacement.kind == ReplacementKind::other) {
        if (!map.defined()) {
          row(made, b, t).copy_(row(other, b, t));
        } else if (const auto from = map[b][t].item<std::int64_t>(); from >= 0) {
          row(made, b, t).copy_(row(other, b, from));
        }
        continue;
      }
      at::Tensor sum = at::zeros_like(row(base, b, t));
      double count = 0.0;
      for (std::int64_t c = 0; c < pairs.count(); ++c) {
        if (replacement.kind == ReplacementKind::mean_position && c != b) continue;
        for (std::int64_t u = 0; u < length_of(pairs, clean, c); ++u) {
          if (replacement.kind == ReplacementKind::mean_batch && u != t) continue;
          sum = sum + row(base, c, u);
          count += 1.0;
        }
      }
      row(made, b, t).copy_(sum / count);
    }
  }
  return made;
}

}  // namespace

Intervention naive_edit(const Model& model, const Pairs& pairs, const SlicedSite& at,
                        const Replacement& replacement, Direction direction,
                        const std::vector<Intervention>& fixed, Memo* memo) {
  Intervention made{.site = at.site, .where = at.slice};
  const auto vector = [&] {
    const at::Tensor own =
        replacement.vector.dim() == 2 ? replacement.vector[at.site.layer] : replacement.vector;
    return own.index_select(0, at::tensor(entries(at.slice.units, own.size(0)), at::kLong));
  };
  switch (replacement.kind) {
    case ReplacementKind::zero: made.edit = Zero{}; break;
    case ReplacementKind::scale: made.edit = Scale{replacement.number}; break;
    case ReplacementKind::hide: made.edit = Hide{}; break;
    case ReplacementKind::put: made.edit = Put{vector()}; break;
    case ReplacementKind::add: made.edit = Add{vector()}; break;
    case ReplacementKind::project_out: made.edit = ProjectOut{vector()}; break;
    case ReplacementKind::clamp_norm:
      made.edit = ClampNorm{at::full({1}, replacement.number, at::kDouble)};
      break;
    default: {
      Memo own;
      Memo& known = memo != nullptr ? *memo : own;
      if (!known.contains(at.site))
        known[at.site] = replaced(model, pairs, at.site, replacement, direction, fixed);
      made.edit = Put{cut(known.at(at.site), at.site.part, at.slice)};
    }
  }
  return made;
}

std::vector<Intervention> naive_fixed(const Model& model, const Pairs& pairs,
                                      const PatchOptions& options) {
  std::vector<Intervention> fixed;
  for (const FixedEdit& edit : options.with)
    fixed.push_back(naive_edit(model, pairs, edit.at, edit.replacement, options.direction, {}));
  return fixed;
}

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
      case MetricKind::prob_diff: values.push_back((p[right] - p[wrong]).item<double>()); break;
      case MetricKind::loss:
      case MetricKind::attention:
      case MetricKind::norm:
      case MetricKind::projection: return {};  // not of these logits alone
      case MetricKind::custom:
        values.push_back(
            metric.custom(logits.narrow(0, b, 1), at::tensor({b}, at::kLong)).item<double>());
        break;
    }
  }
  return at::tensor(values, at::kDouble);
}

at::Tensor naive_read(const Model& model, const Pairs& pairs, const Metric& metric, bool clean,
                      const Plan& plan, const std::vector<Intervention>& fixed) {
  std::vector<double> values;
  if (metric.kind == MetricKind::loss) {
    const at::Tensor logits = run(model, tokens_of(pairs, clean), plan).logits;
    for (std::int64_t b = 0; b < pairs.count(); ++b) {
      double sum = 0.0;
      const auto positions = entries(metric.positions, length_of(pairs, clean, b) - 1);
      for (const std::int64_t t : positions) {
        const auto next = pairs.clean.ids[b][t + 1].item<std::int64_t>();
        sum -= std::log(at::softmax(logits[b][t], 0)[next].item<double>());
      }
      values.push_back(sum / static_cast<double>(positions.size()));
    }
    return at::tensor(values, at::kDouble);
  }
  if (!reads_block(metric)) {
    const bool compares = metric.kind == MetricKind::kl || metric.kind == MetricKind::reverse_kl ||
                          metric.kind == MetricKind::js;
    const at::Tensor logits = read_logits(model, pairs, clean, plan);
    return naive_metric(
        metric, pairs, logits,
        compares ? read_logits(model, pairs, true, {.interventions = fixed}) : logits);
  }
  Plan reading = plan;
  const Site site = metric.site.site;
  const Slice& slice = metric.site.slice;
  reading.record = {site};
  const at::Tensor value = run(model, tokens_of(pairs, clean), reading).cache.at(site);
  for (std::int64_t b = 0; b < pairs.count(); ++b) {
    double sum = 0.0;
    double count = 0.0;
    const std::int64_t length = length_of(pairs, clean, b);
    if (metric.kind == MetricKind::attention) {
      for (const std::int64_t h : entries(slice.heads, value.size(1))) {
        for (const std::int64_t q : entries(slice.positions, length)) {
          if (slice.positions.empty() && q <= slice.keys.back()) continue;
          for (const std::int64_t k : slice.keys) sum += value[b][h][q][k].item<double>();
          count += 1.0;
        }
      }
    } else {
      const bool heads = value.dim() == 4;
      for (const std::int64_t t : entries(slice.positions, length)) {
        for (const std::int64_t h : entries(slice.heads, heads ? value.size(2) : 1)) {
          const at::Tensor x = heads ? value[b][t][h] : value[b][t];
          sum += metric.kind == MetricKind::norm
                     ? std::sqrt(x.square().sum().item<double>())
                     : x.dot(metric.direction).item<double>() /
                           std::sqrt(metric.direction.square().sum().item<double>());
          count += 1.0;
        }
      }
    }
    values.push_back(sum / count);
  }
  return at::tensor(values, at::kDouble);
}

at::Tensor naive_patch(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                       const PatchOptions& options) {
  const bool clean = base_is_clean(pairs, options.direction);
  const std::vector<Intervention> fixed = naive_fixed(model, pairs, options);
  const ModelConfig& config = model.config();
  const auto positions = tokens_of(pairs, clean).length();
  std::vector<std::int64_t> shape;
  std::vector<at::Tensor> results;
  // Goes over the axes in the spec's order, as an odometer does.
  std::vector<std::int64_t> place(spec.axes.size(), 0);
  for (const SweepAxis axis : spec.axes) {
    switch (axis) {
      case SweepAxis::layer: shape.push_back(config.layers); break;
      case SweepAxis::position:
      case SweepAxis::query:
      case SweepAxis::key: shape.push_back(positions); break;
      case SweepAxis::head: {
        const bool keys = spec.part == Part::k || spec.part == Part::v;
        shape.push_back(keys ? config.kv_heads : config.heads);
        break;
      }
      case SweepAxis::neuron: shape.push_back(config.d_mlp); break;
      case SweepAxis::expert: shape.push_back(config.experts.count); break;
      case SweepAxis::set: shape.push_back(static_cast<std::int64_t>(spec.sets.size())); break;
    }
  }
  Memo memo;
  while (true) {
    SlicedSite at{.site = {spec.part, 0}};
    std::vector<SlicedSite> sites;
    for (std::size_t axis = 0; axis < place.size(); ++axis) {
      switch (spec.axes[axis]) {
        case SweepAxis::layer: at.site.layer = static_cast<int>(place[axis]); break;
        case SweepAxis::position:
        case SweepAxis::query: at.slice.positions = {place[axis]}; break;
        case SweepAxis::head: at.slice.heads = {place[axis]}; break;
        case SweepAxis::neuron: at.slice.units = {place[axis]}; break;
        case SweepAxis::expert: at.slice.experts = {place[axis]}; break;
        case SweepAxis::key: at.slice.keys = {place[axis]}; break;
        case SweepAxis::set: sites = spec.sets[static_cast<std::size_t>(place[axis])].sites; break;
      }
    }
    if (spec.sets.empty()) sites = {at};
    if (has_part(config, sites.front().site.part, sites.front().site.layer)) {
      std::vector<Intervention> edits = fixed;
      for (const SlicedSite& site : sites)
        edits.push_back(
            naive_edit(model, pairs, site, options.replacement, options.direction, fixed, &memo));
      results.push_back(
          naive_read(model, pairs, options.metric, clean, {.interventions = edits}, fixed));
    } else {
      results.push_back(
          at::full({pairs.count()}, std::nan(""), at::TensorOptions().dtype(at::kDouble)));
    }
    std::size_t axis = place.size();
    while (axis > 0 && ++place[axis - 1] == shape[axis - 1]) place[--axis] = 0;
    if (axis == 0) break;
  }
  shape.push_back(pairs.count());
  return at::stack(results).view(shape);
}

}  // namespace plumb::test
