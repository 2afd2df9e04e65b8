#include "experiment/edge_samples.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/precision.h"
#include "experiment/edge_plain.h"
#include "model/tiling.h"

namespace plumb {
namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

BackRules rules_of(const EdgeOptions& options) {
  return {.relevance = options.rules != EdgeRules::gradient,
          .patterns = options.rules == EdgeRules::relp_ah};
}

// One run whose gradient is taken.
struct Sample {
  int from = 0;  // the block that `stream` enters; those before it are as clean
  at::Tensor stream = {};
  ConstantWrite constant = {};
  double weight = 1.0;
  Which which = Which::clean;
};

class EdgeTileRun {
 public:
  EdgeTileRun(const Model& model, const Pairs& pairs, std::int64_t first, const Metric& metric,
              const EdgeOptions& options, const std::function<void()>& step)
      : pairs_(pairs),
        options_(options),
        step_(step),
        model_(model, pairs.count(), pairs.clean.length(), rules_of(options)),
        metric_(model, pairs, metric, first, rules_of(options)),
        space_(model.config()) {}

  EdgeTile run() {
    plain_ = run_plain(model_, pairs_, metric_,
                       {.clean_streams = options_.method != EdgeMethod::eap_ig,
                        .corrupt_streams = options_.method == EdgeMethod::clean_corrupted});
    made_.evaluations = plain_.evaluations;
    made_.clean = plain_.clean;
    made_.corrupt = plain_.corrupt;
    EdgeContraction contraction(model_.model(), space_, plain_.change,
                                options_.by_position ? KeepAxis::position : KeepAxis::pair);
    switch (options_.method) {
      case EdgeMethod::eap: take(contraction, plain(Which::clean, 1.0)); break;
      case EdgeMethod::clean_corrupted:
        take(contraction, plain(Which::clean, 0.5));
        take(contraction, plain(Which::corrupt, 0.5));
        break;
      case EdgeMethod::eap_ig: inputs(contraction); break;
      case EdgeMethod::eap_ig_activations: activations(contraction); break;
      case EdgeMethod::direct:
      case EdgeMethod::exact: break;  // not by gradients
    }
    made_.sums = contraction.take();
    return std::move(made_);
  }

 private:
  const ModelConfig& config() const { return model_.config(); }
  int depth() const { return metric_.depth(); }
  std::int64_t positions() const { return pairs_.count() * pairs_.clean.length(); }

  // A run whose streams are known.
  Sample plain(Which which, double weight) const {
    return {
        .from = depth(),
        .stream = (which == Which::clean ? plain_.clean_streams : plain_.corrupt_streams).back(),
        .weight = weight,
        .which = which};
  }

  void inputs(EdgeContraction& contraction) {
    const at::Tensor clean = plain_.clean_streams.front();
    for (const IgPoint& point :
         ig_points(options_.points.value_or(IgPoints::left), options_.steps)) {
      const at::Tensor stream =
          (widened(clean) + (1.0 - point.clean) * plain_.change.input.view(clean.sizes()))
              .to(clean.scalar_type());
      take(contraction, {.stream = stream, .weight = point.weight});
    }
  }

  void activations(EdgeContraction& contraction) {
    const std::vector<IgPoint> points =
        ig_points(options_.points.value_or(IgPoints::right), options_.steps);
    const double share = 1.0 / (2.0 * depth() + 1.0);
    const at::Tensor clean = plain_.clean_streams.front();
    for (const IgPoint& point : points) {
      const at::Tensor stream =
          (widened(clean) + (1.0 - point.clean) * plain_.change.input.view(clean.sizes()))
              .to(clean.scalar_type());
      take(contraction, {.stream = stream, .weight = point.weight * share});
    }
    for (int layer = 0; layer < depth(); ++layer) {
      for (const bool mlp : {false, true}) {
        const at::Tensor whole = mlp ? plain_.change.mlp[at_layer(layer)]
                                     : plain_.change.z[at_layer(layer)].flatten(1).matmul(
                                           writing_weights(model_.model(), layer).flatten(0, 1));
        for (const IgPoint& point : points) {
          const ConstantWrite constant{.layer = layer,
                                       .mlp = mlp,
                                       .change = ((1.0 - point.clean) * whole).view(clean.sizes())};
          take(contraction, {.from = layer,
                             .stream = plain_.clean_streams[at_layer(layer)],
                             .constant = constant,
                             .weight = point.weight * share});
        }
      }
    }
  }

  // Runs the sample forwards from where it leaves the plain run, then backwards.
  void take(EdgeContraction& contraction, const Sample& sample) {
    contraction.weigh(sample.weight);
    std::vector<at::Tensor>& known =
        sample.which == Which::clean ? plain_.clean_streams : plain_.corrupt_streams;
    // A plain run is gone through once, and its streams are let go of on the way.
    std::vector<at::Tensor> streams = sample.from == depth() ? std::move(known) : known;
    const std::optional<SiteReadOut> read = metric_.site(sample.which);
    at::Tensor stream = sample.stream;
    for (int layer = sample.from; layer < depth(); ++layer) {
      streams[at_layer(layer)] = stream;
      if (read && layer + 1 == depth()) break;  // it is read in the pass with the graph
      std::vector<Intervention> edits;
      if (sample.constant.layer == layer) {
        edits.push_back({.site = {sample.constant.mlp ? Part::mlp_out : Part::attn_out, layer},
                         .edit = Add{sample.constant.change}});
      }
      stream = model_.block(layer, stream, {}, edits).at({Part::resid_post, layer});
      made_.evaluations += positions();
    }
    at::Tensor gradient;
    if (!read) {
      gradient = metric_.gradient(stream, sample.which);
      contraction.add(StreamReader{gradient, space_.senders()});
    }
    stream = at::Tensor();
    GradientPass pass(model_, read ? &*read : nullptr);
    for (int layer = depth() - 1; layer >= 0; --layer) {
      BlockBack step = pass.back(layer, streams[at_layer(layer)], gradient, sample.constant);
      streams[at_layer(layer)] = at::Tensor();
      gradient = step.resid_pre;
      if (step.read_out) contraction.add(*step.read_out);
      contraction.add(std::move(step.receivers));
    }
    made_.evaluations += positions() * depth();
    made_.backwards += positions() * depth();
    step_();
  }

  const Pairs& pairs_;
  const EdgeOptions& options_;
  const std::function<void()>& step_;
  TileModel model_;
  TileMetric metric_;
  EdgeSpace space_;
  EdgePlain plain_ = {};
  EdgeTile made_ = {};
};

}  // namespace

GradientTiling::GradientTiling(std::int64_t pairs, std::int64_t length)
    : pairs_(pairs),
      size_(std::min(Tiling(pairs, length, false).size(),
                     std::max<std::int64_t>(1, rows_of_gradients / length))) {}

std::vector<IgPoint> ig_points(IgPoints points, int steps) {
  std::vector<IgPoint> made;
  const double m = steps;
  for (int k = 0; k < steps + (points == IgPoints::trapezoid ? 1 : 0); ++k) {
    double clean = k / m;
    if (points == IgPoints::right) clean = (k + 1) / m;
    if (points == IgPoints::midpoint) clean = (k + 0.5) / m;
    const bool half = points == IgPoints::trapezoid && (k == 0 || k == steps);
    made.push_back({.clean = clean, .weight = (half ? 0.5 : 1.0) / m});
  }
  return made;
}

std::int64_t samples_of(const EdgeOptions& options, int depth) {
  const auto count = [&](IgPoints own) {
    const bool both_ends = options.points.value_or(own) == IgPoints::trapezoid;
    return std::int64_t{options.steps} + (both_ends ? 1 : 0);
  };
  switch (options.method) {
    case EdgeMethod::clean_corrupted: return 2;
    case EdgeMethod::eap_ig: return count(IgPoints::left);
    case EdgeMethod::eap_ig_activations: return count(IgPoints::right) * (2 * depth + 1);
    default: break;
  }
  return 1;
}

EdgeTile score_tile(const Model& model, const Pairs& pairs, std::int64_t first,
                    const Metric& metric, const EdgeOptions& options,
                    const std::function<void()>& step) {
  return EdgeTileRun(model, pairs, first, metric, options, step).run();
}

}  // namespace plumb
