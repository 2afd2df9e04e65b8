#include "plumb/edge_search.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "plumb/error.h"
#include "plumb/evaluate.h"

namespace plumb {
namespace {

bool is_divergence(MetricKind kind) {
  return kind == MetricKind::kl || kind == MetricKind::reverse_kl || kind == MetricKind::js;
}

}  // namespace

CircuitSearch search_circuit(const Model& model, const EdgeCircuit& start, const Pairs& pairs,
                             const EdgeRunOptions& run, const SearchOptions& options,
                             const Progress& progress) {
  check(start);
  SearchOptions own = options;
  own.ends = edge_ends(start.space, run.metric);
  const EdgeCircuit widest = pruned(start, *own.ends);
  EdgeRunSeries series(model, widest.space, pairs, run, widest.in);
  const double whole = series.plain().clean.mean().item<double>();
  CircuitSearch found;
  const auto loss = [&](const EdgeCircuit& circuit) {
    const double mean = series.value(circuit.in).mean().item<double>();
    const double value = is_divergence(run.metric.kind) ? mean : std::abs(mean - whole);
    if (!std::isfinite(value))
      throw Error(ErrorKind::bad_argument,
                  fmt::format("the metric {} of a circuit is not finite: a search cannot go by it",
                              to_string(run.metric)));
    if (found.tried++ == 0) found.start_loss = value;
    return value;
  };
  found.circuit = search_edges(widest, loss, own, progress);
  found.loss = loss(found.circuit);
  found.evaluations = series.evaluations();
  found.naive_evaluations =
      found.tried * pairs.count() * pairs.length() * std::int64_t{model.config().layers};
  return found;
}

}  // namespace plumb
