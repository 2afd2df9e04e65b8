#include "plumb/evaluate.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "circuit/edge_nodes.h"
#include "core/random.h"
#include "experiment/value_intervals.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Mask = std::vector<std::uint8_t>;

bool is_constant(const Mask& mask, std::uint8_t value) {
  return std::all_of(mask.begin(), mask.end(), [&](std::uint8_t in) { return in == value; });
}

// The plain runs, and the faithfulness that they give to others.
class Yardstick {
 public:
  Yardstick(const EdgeRuns& runs, const Metric& metric) : runs_(runs) {
    const double range = (runs.clean.mean() - runs.empty.mean()).item<double>();
    if (range == 0.0 || !std::isfinite(range)) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("the model and the run without any edge have the mean {} {} and {}: "
                              "there is nothing to be faithful to",
                              to_string(metric), runs.clean.mean().item<double>(),
                              runs.empty.mean().item<double>()));
    }
    shares_ = bootstrap_shares(runs.clean.size(0));
    from_ = at::mv(shares_, runs.empty);
    range_ = at::mv(shares_, runs.clean) - from_;
  }

  double mean(const at::Tensor& each) const {
    const double from = runs_.empty.mean().item<double>();
    return (each.mean().item<double>() - from) / (runs_.clean.mean().item<double>() - from);
  }
  /// [samples]
  at::Tensor samples(const at::Tensor& each) const {
    return (at::mv(shares_, each) - from_) / range_;
  }
  Estimate operator()(const at::Tensor& each) const { return middle_of(mean(each), samples(each)); }

 private:
  const EdgeRuns& runs_;
  at::Tensor shares_ = {};
  at::Tensor from_ = {};
  at::Tensor range_ = {};
};

// The metric of each mask, [B] each; equal masks are run once, the full and the empty one never.
std::vector<at::Tensor> values_of(const Model& model, const EdgeSpace& space,
                                  const std::vector<Mask>& masks, const Pairs& pairs,
                                  const EdgeRunOptions& options, const Progress& progress,
                                  EdgeRuns& runs) {
  const auto key = [](const Mask& mask) { return std::string(mask.begin(), mask.end()); };
  std::map<std::string, std::int64_t> places;
  std::vector<Mask> to_run;
  for (const Mask& mask : masks) {
    if (is_constant(mask, 0) || is_constant(mask, 1)) continue;
    if (places.emplace(key(mask), std::ssize(to_run)).second) to_run.push_back(mask);
  }
  runs = run_edges(model, space, to_run, pairs, options, progress);
  std::vector<at::Tensor> values;
  for (const Mask& mask : masks) {
    const auto found = places.find(key(mask));
    values.push_back(found != places.end()  ? runs.each[found->second]
                     : is_constant(mask, 1) ? runs.clean
                                            : runs.empty);
  }
  return values;
}

Evaluation plain_of(const EdgeRuns& runs, const Pairs& pairs, const EvaluationOptions& options,
                    std::int64_t asked) {
  return {.options = options,
          .paired = pairs.paired,
          .clean = runs.clean,
          .corrupt = runs.corrupt,
          .empty = runs.empty,
          .clean_mean = bootstrap(runs.clean),
          .corrupt_mean = bootstrap(runs.corrupt),
          .empty_mean = bootstrap(runs.empty),
          .evaluations = runs.evaluations,
          .plain_evaluations = runs.plain_evaluations,
          .runs = asked};
}

CircuitValue value_of(const EdgeCircuit& circuit, const at::Tensor& each,
                      const Yardstick& yardstick) {
  return {.name = circuit.title,
          .edges = count_edges(circuit),
          .nodes = count_nodes(circuit),
          .each = each,
          .metric = bootstrap(each),
          .faithfulness = yardstick(each)};
}

EdgeCircuit made_ready(const EdgeCircuit& circuit, const EvaluationOptions& options) {
  check(circuit);
  return options.prune ? pruned(circuit, edge_ends(circuit.space, options.run.metric)) : circuit;
}

// By trapezoids over the fractions; `of` gives the height, a number or one for each sample.
template <typename Value>
Value area(const std::vector<double>& x, const std::vector<Value>& heights, Value none) {
  Value sum = none;
  for (std::size_t i = 1; i < x.size(); ++i)
    sum = sum + (heights[i] + heights[i - 1]) * (0.5 * (x[i] - x[i - 1]));
  return sum;
}

void tell_areas(Curve& curve, const Yardstick& yardstick) {
  std::vector<double> x;
  std::vector<double> f;
  std::vector<double> distance;
  std::vector<at::Tensor> f_samples;
  std::vector<at::Tensor> distance_samples;
  for (const CurvePoint& point : curve.points) {
    x.push_back(point.fraction);
    f.push_back(point.value.faithfulness.mean);
    distance.push_back(std::abs(1.0 - f.back()));
    f_samples.push_back(yardstick.samples(point.value.each));
    distance_samples.push_back((1.0 - f_samples.back()).abs());
  }
  const at::Tensor none = at::zeros_like(f_samples.front());
  curve.cpr = middle_of(area(x, f, 0.0), area(x, f_samples, none));
  curve.cmd = middle_of(area(x, distance, 0.0), area(x, distance_samples, none));
}

void check_fractions(const CurveOptions& options) {
  const std::vector<double>& x = options.fractions;
  const bool rising = std::adjacent_find(x.begin(), x.end(), std::greater_equal()) == x.end();
  if (x.size() < 2 || !rising || !(x.front() >= 0.0) || !(x.back() <= 1.0)) {
    throw Error(ErrorKind::bad_argument,
                "a curve needs at least two fractions from 0 to 1, each larger than the last");
  }
  if (options.baselines < 0 || options.baselines > 1000)
    throw Error(ErrorKind::bad_argument,
                fmt::format("from 0 to 1,000 baselines can be run, not {}", options.baselines));
}

// One curve's rule: from the number of edges to the circuit.
struct Chooser {
  std::string name = {};
  std::function<EdgeCircuit(std::int64_t n)> choose = {};
};

std::vector<Chooser> choosers(const EdgeCircuit& scored, const CurveOptions& options) {
  const auto chosen = [&scored, &options](std::int64_t n, bool absolute) {
    return options.greedy ? greedy_edges(scored, n, absolute) : top_edges(scored, n, absolute);
  };
  std::vector<Chooser> made = {{"signed", [=](std::int64_t n) { return chosen(n, false); }},
                               {"absolute", [=](std::int64_t n) { return chosen(n, true); }}};
  const Random seeds(options.seed);
  for (int i = 0; i < options.baselines; ++i) {
    const std::uint64_t seed = seeds.fork(static_cast<std::uint64_t>(i)).next();
    const auto name = [&](const char* kind) { return fmt::format("{} {}", kind, i + 1); };
    made.push_back(
        {name("random"), [=](std::int64_t n) { return random_edges(chosen(n, true), seed); }});
    for (const auto& [kind, matching] :
         {std::pair("layers", Matching::layers), std::pair("scores", Matching::scores)}) {
      made.push_back({name(kind), [=, matching = matching](std::int64_t n) {
                        return matched_edges(chosen(n, true), matching, seed);
                      }});
    }
  }
  return made;
}

}  // namespace

Evaluation evaluate(const Model& model, const std::vector<EdgeCircuit>& circuits,
                    const Pairs& pairs, const EvaluationOptions& options,
                    const Progress& progress) {
  if (circuits.empty())
    throw Error(ErrorKind::bad_argument, "expected at least one circuit to evaluate, got none");
  std::vector<EdgeCircuit> ready;
  std::vector<Mask> masks;
  for (const EdgeCircuit& circuit : circuits) {
    if (circuit.space != circuits.front().space)
      throw Error(ErrorKind::bad_argument, "the circuits are not of one model");
    ready.push_back(made_ready(circuit, options));
    masks.push_back(ready.back().in);
  }
  if (options.complements) {
    for (const EdgeCircuit& circuit : ready)
      masks.push_back(made_ready(complement(circuit), options).in);
  }
  EdgeRuns runs;
  const auto values =
      values_of(model, circuits.front().space, masks, pairs, options.run, progress, runs);
  const Yardstick yardstick(runs, options.run.metric);
  Evaluation made = plain_of(runs, pairs, options, std::ssize(masks));
  for (std::size_t i = 0; i < ready.size(); ++i) {
    made.circuits.push_back(value_of(ready[i], values[i], yardstick));
    if (options.complements)
      made.circuits.back().completeness = yardstick(values[ready.size() + i]);
  }
  return made;
}

CurveReport evaluate_curve(const Model& model, const EdgeCircuit& scored, const Pairs& pairs,
                           const CurveOptions& options, const Progress& progress) {
  check(scored);
  check_fractions(options);
  const auto all = static_cast<double>(scored.space.edges());
  std::vector<Curve> curves;
  std::vector<Mask> masks;
  std::vector<EdgeCircuit> ready;
  for (const Chooser& chooser : choosers(scored, options)) {
    Curve curve{.name = chooser.name};
    for (const double fraction : options.fractions) {
      const auto n = static_cast<std::int64_t>(fraction * all);
      const EdgeCircuit circuit = chooser.choose(n);
      curve.points.push_back({.fraction = fraction, .chosen = count_edges(circuit)});
      ready.push_back(made_ready(circuit, options.evaluation));
      masks.push_back(ready.back().in);
    }
    curves.push_back(std::move(curve));
  }
  EdgeRuns runs;
  const auto values =
      values_of(model, scored.space, masks, pairs, options.evaluation.run, progress, runs);
  const Yardstick yardstick(runs, options.evaluation.run.metric);
  CurveReport made{.plain = plain_of(runs, pairs, options.evaluation, std::ssize(masks))};
  std::size_t at = 0;
  for (Curve& curve : curves) {
    for (CurvePoint& point : curve.points) {
      point.value = value_of(ready[at], values[at], yardstick);
      ++at;
    }
    tell_areas(curve, yardstick);
    made.curves.push_back(std::move(curve));
  }
  return made;
}

std::vector<EdgeNeed> minimality(const Model& model, const EdgeCircuit& circuit, const Pairs& pairs,
                                 std::int64_t sample, const EvaluationOptions& options,
                                 std::uint64_t seed, const Progress& progress) {
  const EdgeCircuit ready = made_ready(circuit, options);
  std::vector<std::int64_t> own;
  for (std::int64_t edge = 0; edge < ready.space.edges(); ++edge) {
    if (has(ready, edge)) own.push_back(edge);
  }
  if (sample < 1)
    throw Error(ErrorKind::bad_argument, fmt::format("{} edges are no sample", sample));
  std::vector<std::int64_t> chosen;
  const std::vector<std::int64_t> order = Random(seed).permutation(std::ssize(own));
  for (std::size_t i = 0; i < order.size() && std::ssize(chosen) < sample; ++i)
    chosen.push_back(own[static_cast<std::size_t>(order[i])]);
  std::vector<Mask> masks = {ready.in};
  for (const std::int64_t edge : chosen) {
    EdgeCircuit rest = ready;
    rest.in[static_cast<std::size_t>(edge)] = 0;
    masks.push_back(made_ready(rest, options).in);
  }
  EdgeRuns runs;
  const auto values = values_of(model, ready.space, masks, pairs, options.run, progress, runs);
  const Yardstick yardstick(runs, options.run.metric);
  std::vector<EdgeNeed> needs;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const at::Tensor& without = values[i + 1];
    needs.push_back({.edge = chosen[i],
                     .loss = middle_of(yardstick.mean(values[0]) - yardstick.mean(without),
                                       yardstick.samples(values[0]) - yardstick.samples(without))});
  }
  std::stable_sort(needs.begin(), needs.end(), [](const EdgeNeed& a, const EdgeNeed& b) {
    return std::abs(a.loss.mean) > std::abs(b.loss.mean);
  });
  return needs;
}

Estimate top_stability(const at::Tensor& each, std::int64_t n, bool absolute, int draws,
                       std::uint64_t seed) {
  if (!each.defined() || each.dim() != 2 || each.size(0) < 1 || n < 1 || n > each.size(1) ||
      draws < 1) {
    throw Error(ErrorKind::bad_argument,
                "the stability of the top edges needs scores [pairs, edges], a number of edges "
                "that there are, and draws");
  }
  const at::Tensor scores = each.to(at::kCPU, at::kDouble);
  const auto top = [&](const at::Tensor& weights) {
    const at::Tensor mean = at::mv(scores.t(), weights);
    const at::Tensor order = (absolute ? mean.abs() : mean).argsort(0, true);
    at::Tensor in = at::zeros({scores.size(1)}, at::kBool);
    in.index_fill_(0, order.narrow(0, 0, n), true);
    return in;
  };
  const std::int64_t B = scores.size(0);
  const at::Tensor whole = top(at::full({B}, 1.0 / static_cast<double>(B), at::kDouble));
  Random random(seed);
  at::Tensor found = at::zeros({draws}, at::kDouble);
  for (int draw = 0; draw < draws; ++draw) {
    at::Tensor weights = at::zeros({B}, at::kDouble);
    auto* const weight = weights.data_ptr<double>();
    for (std::int64_t i = 0; i < B; ++i) weight[random.below(B)] += 1.0 / static_cast<double>(B);
    const auto both =
        static_cast<double>(at::logical_and(whole, top(weights)).sum().item<std::int64_t>());
    found[draw] = both / (2.0 * static_cast<double>(n) - both);
  }
  return middle_of(found.mean().item<double>(), found);
}

EdgeStability edge_stability(const EdgeReport& report, std::int64_t n, std::uint64_t seed) {
  constexpr int draws = 100;
  if (!report.each.defined())
    throw Error(ErrorKind::bad_argument, "stability needs the scores of each pair");
  const at::Tensor known = report.scores.values.isfinite().nonzero().squeeze(1);
  return {.top = n,
          .draws = draws,
          .overlap = top_stability(report.each.index_select(1, known), n, true, draws, seed)};
}

}  // namespace plumb
