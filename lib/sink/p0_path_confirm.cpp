// Whether the paths that the search kept are the position's, or the doing of the few tokens that
// stand first in its sequences.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/random.h"
#include "experiment/bootstrap.h"
#include "sink/p0_path_graph.h"

namespace plumb {

namespace {

using Edge = PathGraph::Edge;

constexpr std::int64_t tokens_each = 4;  // of a sequence, put first
constexpr double tail = 0.025;           // of the intervals, all of a graph's together

// Tokens put first, and the sequence that each is from.
struct Others {
  FirstTokens tokens = {};
  std::vector<std::int64_t> sequence = {};
};

// Of each sequence a few tokens behind position 0, no two alike and none of those that stand first
// anywhere: the search has not seen their states. Where BOS stands first, or every token does
// somewhere, there are no others.
Others other_tokens(P0Context& context, int depth) {
  const at::Tensor ids = context.inputs.tokens.ids.cpu().contiguous();
  const auto rows = ids.accessor<std::int64_t, 2>();
  std::set<std::int64_t> first;
  for (std::int64_t b = 0; b < ids.size(0); ++b) first.insert(rows[b][0]);
  Others others;
  if (context.inputs.bos) return others;
  Random random = Random(context.options.seed).fork(401);
  std::vector<std::int64_t> chosen;
  for (std::int64_t b = 0; b < ids.size(0); ++b) {
    const std::int64_t length = context.inputs.tokens.lengths.defined()
                                    ? context.inputs.tokens.lengths[b].item<std::int64_t>()
                                    : ids.size(1);
    std::set<std::int64_t> taken = first;
    std::int64_t count = 0;
    for (const auto place : random.permutation(std::max<std::int64_t>(length - 1, 0))) {
      if (count == tokens_each) break;
      const std::int64_t id = rows[b][place + 1];
      if (!taken.insert(id).second) continue;
      chosen.push_back(id);
      others.sequence.push_back(b);
      ++count;
    }
  }
  if (chosen.empty()) return others;

  others.tokens.ids = at::tensor(chosen, at::kLong).unsqueeze(1);
  Plan plan{.record = {Site{Part::resid_pre, 0}}, .logits = Logits::none};
  for (const auto component : components_of_blocks(0, depth))
    plan.record.push_back(output_site(component));
  plan.until = depth;
  const Run run = plumb::run(context.model, Tokens{.ids = others.tokens.ids}, plan);
  context.evaluations += run.evaluations;
  others.tokens.input = run.cache.at({Part::resid_pre, 0});
  const at::Tensor of = at::tensor(others.sequence, at::kLong);
  for (const auto component : components_of_blocks(0, depth)) {
    const at::Tensor& mean = context.values.at(component).mean;
    ComponentValues& value = others.tokens.values[component];
    value.own = run.cache.at(output_site(component));
    value.mean = mean.index_select(0, of.to(mean.device()));
  }
  return others;
}

// Means over the tokens of each sequence that has some: what is drawn at random are sequences.
std::vector<double> by_sequence(const at::Tensor& effects,
                                const std::vector<std::int64_t>& sequence) {
  const at::Tensor flat = effects.to(at::kDouble).cpu().contiguous();
  const auto* values = flat.data_ptr<double>();
  std::vector<double> means;
  for (std::size_t i = 0; i < sequence.size();) {
    double sum = 0.0;
    std::size_t end = i;
    for (; end < sequence.size() && sequence[end] == sequence[i]; ++end) sum += values[end];
    means.push_back(sum / static_cast<double>(end - i));
    i = end;
  }
  return means;
}

bool confirmed(const DoubtfulPath& path) {
  const double sign = path.score.mean < 0.0 ? -1.0 : 1.0;
  const auto clear = [&](const Estimate& estimate) {
    return std::min(sign * estimate.low, sign * estimate.high) > 0.0;
  };
  return clear(path.score) && clear(path.elsewhere) && sign * path.elsewhere.mean >= claimed_share;
}

}  // namespace

std::vector<DoubtfulPath> drop_unconfirmed(P0Context& context, std::size_t w, PathGraph& graph,
                                           const std::vector<Component>& replaced) {
  std::vector<DoubtfulPath> dropped;
  if (graph.kept().empty()) return dropped;
  Others others = other_tokens(context, context.waves[w].onset);
  const bool elsewhere = !others.sequence.empty();
  if (!elsewhere) {
    // The sequences' own tokens, with the correction alone.
    for (std::int64_t b = 0; b < context.inputs.tokens.batch(); ++b) others.sequence.push_back(b);
  }
  PathGraph second =
      elsewhere ? PathGraph(context, w, replaced, others.tokens) : PathGraph(context, w, replaced);
  second.cut_as(graph);
  const double corrected = tail / static_cast<double>(graph.kept().size());
  const auto seed = context.options.seed;
  for (;;) {
    context.tell("confirming the paths on other tokens", 0.5);
    const at::Tensor here = graph.alone();
    const at::Tensor there = second.alone();
    graph.look_ahead(graph.kept());
    second.look_ahead(graph.kept());
    std::vector<std::pair<DoubtfulPath, Edge>> unconfirmed;
    for (const auto& edge : graph.kept()) {
      DoubtfulPath path{
          .name = path_name(graph, edge),
          .score = bootstrap(here - graph.without(edge), seed),
          .elsewhere = bootstrap_at(
              corrected, by_sequence(there - second.without(edge), others.sequence), seed)};
      if (!confirmed(path)) unconfirmed.emplace_back(std::move(path), edge);
    }
    if (unconfirmed.empty()) return dropped;
    std::ranges::stable_sort(
        unconfirmed, {}, [](const auto& entry) { return std::abs(entry.first.elsewhere.mean); });
    // Without the weakest the others may matter. Where there are many, half of them at a time.
    unconfirmed.resize((unconfirmed.size() + 1) / 2);
    for (const auto& [path, edge] : unconfirmed) {
      dropped.push_back(path);
      graph.drop(edge);
      second.drop(edge);
    }
  }
}

}  // namespace plumb
