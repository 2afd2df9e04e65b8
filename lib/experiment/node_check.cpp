// Patching nodes in truth, and what that says of those that were not patched.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "core/random.h"
#include "experiment/correlation.h"
#include "experiment/node_refs.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::int64_t fewest_sets = 4;

void check_options(const NodeCheckOptions& options) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::bad_argument, what); };
  if (options.strongest < 0 || options.doubtful < 0 || options.sampled < 0)
    refuse("expected counts of nodes to verify, got a negative one");
  if (options.sets != 0 && options.sets < fewest_sets)
    refuse(fmt::format("expected 0 or at least {} random sets, got {}", fewest_sets, options.sets));
  if (!(options.share > 0.0 && options.share < 1.0))
    refuse(fmt::format("expected a share between 0 and 1, got {}", options.share));
  if (!(options.confidence > 0.0 && options.confidence < 1.0))
    refuse(fmt::format("expected a confidence between 0 and 1, got {}", options.confidence));
}

// Nodes that the metric can see, by falling size of score.
std::vector<NodeRef> seen_nodes(const NodeReport& report) {
  std::int64_t all = 0;
  for (const NodeSweep& sweep : report.sweeps) all += sweep.scores.numel();
  std::vector<NodeRef> nodes = strongest_nodes(report, all);
  std::erase_if(nodes, [&](NodeRef node) {
    const NodeSweep& sweep = report.sweeps[node.sweep];
    return !is_seen(report.metric, sweep.spec.part, place_of(sweep, node.index).layer);
  });
  return nodes;
}

struct Chosen {
  std::vector<NodeRef> strongest = {};
  std::vector<NodeRef> doubtful = {};
  std::vector<NodeRef> rest = {};  // the sample of them first
  std::int64_t sampled = 0;
};

Chosen choose(const NodeReport& report, const NodeCheckOptions& options) {
  Chosen chosen;
  std::vector<NodeRef> nodes = seen_nodes(report);
  const auto take = [&](std::int64_t count, std::vector<NodeRef>& into) {
    const std::int64_t taken = std::min<std::int64_t>(count, std::ssize(nodes));
    into.assign(nodes.begin(), nodes.begin() + taken);
    nodes.erase(nodes.begin(), nodes.begin() + taken);
  };
  take(options.strongest, chosen.strongest);
  std::vector<at::Tensor> doubts;
  for (const NodeSweep& sweep : report.sweeps) doubts.push_back(sweep.doubts.contiguous());
  const auto doubt = [&](NodeRef node) {
    return doubts[node.sweep].data_ptr<double>()[node.index];
  };
  std::ranges::stable_sort(nodes, [&](NodeRef a, NodeRef b) { return doubt(a) > doubt(b); });
  take(options.doubtful, chosen.doubtful);
  const std::vector<std::int64_t> order = Random(options.seed).permutation(std::ssize(nodes));
  for (const std::int64_t place : order)
    chosen.rest.push_back(nodes[static_cast<std::size_t>(place)]);
  chosen.sampled = std::min<std::int64_t>(options.sampled, std::ssize(nodes));
  return chosen;
}

// What patching the sites of each set together does to the metric, with the sign of the scores:
// float64 [sets, B]. Sets without sites do nothing.
at::Tensor effects_of(const NodeReport& report, const Model& model, const Pairs& pairs,
                      const std::vector<SiteSet>& sets, std::int64_t& evaluations,
                      const Progress& progress) {
  at::Tensor found = at::zeros({std::ssize(sets), pairs.count()}, at::kDouble);
  std::vector<SiteSet> patched;
  std::vector<std::int64_t> places;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    if (sets[i].sites.empty()) continue;
    patched.push_back(sets[i]);
    places.push_back(static_cast<std::int64_t>(i));
  }
  if (patched.empty()) return found;
  const bool noising = report.options.direction == Direction::noising;
  const PatchReport exact = patch(
      model, pairs, {sweep_of_sets(std::move(patched))},
      {.direction = report.options.direction, .metric = report.metric, .raw = true}, progress);
  const at::Tensor& each = exact.sweeps.front().each;
  found.index_copy_(0, at::tensor(places, at::kLong),
                    noising ? exact.clean.unsqueeze(0) - each : each - exact.corrupt.unsqueeze(0));
  evaluations += exact.evaluations;
  return found;
}

// The nodes' sites, those of one layer that differ along one axis alone as one.
std::vector<SlicedSite> together(const NodeSweep& sweep, const std::vector<std::int64_t>& indices) {
  std::map<std::vector<std::int64_t>, SlicedSite> merged;
  const auto& names = sweep.spec.axes;
  std::size_t along = names.size();
  for (std::size_t axis = 0; axis < names.size(); ++axis) {
    if (names[axis] != SweepAxis::layer) along = axis;
  }
  const auto append = [](std::vector<std::int64_t>& to, const std::vector<std::int64_t>& more) {
    if (to != more) to.insert(to.end(), more.begin(), more.end());
  };
  for (const std::int64_t index : indices) {
    const PlacedNode placed = place_of(sweep, index);
    std::vector<std::int64_t> key = placed.places;
    if (along < key.size()) key[along] = -1;
    const SlicedSite site = site_of(sweep, placed);
    const auto [at, fresh] = merged.emplace(key, site);
    if (fresh || along == names.size()) continue;
    Slice& slice = at->second.slice;
    switch (names[along]) {
      case SweepAxis::position:
      case SweepAxis::query: append(slice.positions, site.slice.positions); break;
      case SweepAxis::head: append(slice.heads, site.slice.heads); break;
      case SweepAxis::neuron: append(slice.units, site.slice.units); break;
      case SweepAxis::expert: append(slice.experts, site.slice.experts); break;
      case SweepAxis::key: append(slice.keys, site.slice.keys); break;
      case SweepAxis::layer:
      case SweepAxis::set: break;
    }
  }
  std::vector<SlicedSite> sites;
  for (const auto& [key, site] : merged) sites.push_back(site);
  return sites;
}

// x with P(chi-squared of k degrees <= x) = p.
double chi_squared_quantile(double p, double k) {
  const auto below = [&](double x) {
    return at::igamma(at::scalar_tensor(k / 2.0, at::kDouble),
                      at::scalar_tensor(x / 2.0, at::kDouble))
        .item<double>();
  };
  double low = 0.0;
  double high = k + 1.0;
  while (below(high) < p) high *= 2.0;
  for (int i = 0; i < 200 && high - low > 1e-12 * high; ++i) {
    const double middle = 0.5 * (low + high);
    (below(middle) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

bool is_stream(Part part) {
  return part == Part::resid_pre || part == Part::resid_mid || part == Part::resid_post;
}

// Where nodes are in a set or not by chance, the variance of the set's effect is no smaller than
// share (1 - share) times the square of any node's mean effect in such a set (the first term of its
// decomposition into effects of one node, of two, ...).
std::vector<SetBound> bounds(const NodeReport& report, const Model& model, const Pairs& pairs,
                             const NodeCheckOptions& options, const std::vector<NodeRef>& rest,
                             std::int64_t& evaluations, const Progress& progress) {
  std::vector<SetBound> found;
  for (std::size_t number = 0; number < report.sweeps.size(); ++number) {
    const NodeSweep& sweep = report.sweeps[number];
    std::vector<std::int64_t> nodes;
    for (const NodeRef& node : rest) {
      if (node.sweep == number) nodes.push_back(node.index);
    }
    if (is_stream(sweep.spec.part) || nodes.empty()) continue;
    std::ranges::sort(nodes);
    std::vector<SiteSet> sets;
    for (std::int64_t i = 0; i < options.sets; ++i) {
      Random random = Random(options.seed).fork(1 + static_cast<std::uint64_t>(i)).fork(number);
      std::vector<std::int64_t> in;
      for (const std::int64_t node : nodes) {
        if (random.uniform() < options.share) in.push_back(node);
      }
      sets.push_back({.name = fmt::format("set {}", i), .sites = together(sweep, in)});
    }
    const at::Tensor effects =
        effects_of(report, model, pairs, sets, evaluations, progress).mean(1);
    const double freedom = static_cast<double>(options.sets - 1);
    const double variance = (effects - effects.mean()).square().sum().item<double>() / freedom;
    const double spread = options.share * (1.0 - options.share);
    found.push_back(
        {.sweep = number,
         .nodes = std::ssize(nodes),
         .deviation = std::sqrt(variance),
         .bound = std::sqrt(variance * freedom /
                            chi_squared_quantile(1.0 - options.confidence, freedom) / spread)});
  }
  return found;
}

void correlate(NodeCheck& check) {
  std::vector<double> scores;
  std::vector<double> exact;
  std::vector<double> sizes;
  std::vector<double> exact_sizes;
  std::vector<double> sampled;
  std::vector<double> exact_sampled;
  for (const CheckedNode& node : check.nodes) {
    scores.push_back(node.score);
    exact.push_back(node.exact);
    sizes.push_back(std::abs(node.score));
    exact_sizes.push_back(std::abs(node.exact));
    if (node.as != CheckedAs::sampled) continue;
    sampled.push_back(sizes.back());
    exact_sampled.push_back(exact_sizes.back());
  }
  check.pearson = correlation(scores, exact);
  check.spearman = correlation(ranks(sizes), ranks(exact_sizes));
  check.spearman_sampled = correlation(ranks(sampled), ranks(exact_sampled));
}

void find_missed(NodeCheck& check) {
  for (const CheckedNode& node : check.nodes) {
    if (node.as == CheckedAs::strongest) continue;
    if (!check.missed || std::abs(node.exact) > std::abs(check.missed->exact)) check.missed = node;
    if (node.as == CheckedAs::sampled)
      check.largest_sampled = std::max(check.largest_sampled, std::abs(node.exact));
  }
  if (!check.missed) return;
  check.missed_rank = 1 + std::ranges::count_if(check.nodes, [&](const CheckedNode& node) {
                        return std::abs(node.exact) > std::abs(check.missed->exact);
                      });
}

}  // namespace

std::int64_t most_exceeding(std::int64_t nodes, std::int64_t sampled, double confidence) {
  // ln of the chance that none of the k largest of `nodes` is among the sample.
  const auto missed = [&](std::int64_t k) {
    const auto ln_choose = [](double n, double m) {
      return std::lgamma(n + 1.0) - std::lgamma(m + 1.0) - std::lgamma(n - m + 1.0);
    };
    return ln_choose(static_cast<double>(nodes - k), static_cast<double>(sampled)) -
           ln_choose(static_cast<double>(nodes), static_cast<double>(sampled));
  };
  std::int64_t k = 0;
  while (k + sampled < nodes && missed(k + 1) > std::log1p(-confidence)) ++k;
  return k;
}

void check_nodes(NodeReport& report, const Model& model, const Pairs& pairs,
                 const NodeCheckOptions& options, const Progress& progress) {
  check_options(options);
  const Chosen chosen = choose(report, options);
  NodeCheck check{.options = options};
  check.rest = std::ssize(chosen.rest);
  check.nodes_seen = check.rest + std::ssize(chosen.strongest) + std::ssize(chosen.doubtful);
  std::vector<SiteSet> sets;
  const auto take = [&](const NodeRef& node, CheckedAs as) {
    check.nodes.push_back({.node = node, .as = as, .score = node_score(report, node)});
    const NodeSweep& sweep = report.sweeps[node.sweep];
    sets.push_back(
        {.name = node_name(report, node), .sites = {site_of(sweep, place_of(sweep, node.index))}});
  };
  for (const NodeRef& node : chosen.strongest) take(node, CheckedAs::strongest);
  for (const NodeRef& node : chosen.doubtful) take(node, CheckedAs::doubtful);
  for (std::int64_t i = 0; i < chosen.sampled; ++i)
    take(chosen.rest[static_cast<std::size_t>(i)], CheckedAs::sampled);
  const at::Tensor effects = effects_of(report, model, pairs, sets, check.evaluations, progress);
  const at::Tensor means =
      report.options.method == NodeMethod::atp_star ? effects.abs().mean(1) : effects.mean(1);
  for (std::size_t i = 0; i < check.nodes.size(); ++i)
    check.nodes[i].exact = means[static_cast<std::int64_t>(i)].item<double>();
  correlate(check);
  find_missed(check);
  check.may_exceed = most_exceeding(check.rest, chosen.sampled, options.confidence);
  if (options.sets > 0)
    check.sets = bounds(report, model, pairs, options, chosen.rest, check.evaluations, progress);
  report.check = std::move(check);
}

}  // namespace plumb
