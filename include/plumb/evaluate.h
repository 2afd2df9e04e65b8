// How much of a model's behaviour a circuit carries by itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/attribute.h"
#include "plumb/edge_circuit.h"
#include "plumb/edge_run.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/progress.h"

namespace plumb {

// Faithfulness is f(C) = (m(C) - m(none)) / (m(model) - m(none)) of metrics m that are means over
// pairs; 1 = the circuit does what the model does, 0 = what the run does in which every edge is
// replaced (MIB, arXiv:2504.13151). Above 1: what was left out works against the metric.

struct EvaluationOptions {
  EdgeRunOptions run = {};
  bool prune = true;         ///< circuits are pruned first, as EAP-IG does
  bool complements = false;  ///< also what is left of the model without each circuit
};

/// One circuit, evaluated.
struct CircuitValue {
  std::string name = {};
  std::int64_t edges = 0;  ///< run
  std::int64_t nodes = 0;
  at::Tensor each = {};  ///< [B] float64: the metric
  Estimate metric = {};
  Estimate faithfulness = {};  ///< 95 % bootstrap over pairs, all runs drawn alike
  Estimate completeness = {};  ///< f of the rest of the model, if asked for: 0 = nothing is left
};

struct Evaluation {
  EvaluationOptions options = {};
  bool paired = true;
  at::Tensor clean = {};  ///< [B]: the metric of the plain runs
  at::Tensor corrupt = {};
  at::Tensor empty = {};  ///< [B]: of the run without any edge
  Estimate clean_mean = {};
  Estimate corrupt_mean = {};
  Estimate empty_mean = {};
  std::vector<CircuitValue> circuits = {};
  std::int64_t evaluations = 0;        ///< token-layer evaluations made, as in `EdgeRuns`
  std::int64_t plain_evaluations = 0;  ///< of these, those of the plain runs
  /// Circuits asked for, complements too. One forward pass for each beside a clean and a corrupt
  /// one are runs + 2; EAP-IG's package makes 2 runs + 2: each beside a corrupt one of its own.
  std::int64_t runs = 0;
};

/// Without what lies on no path from the input to where the edges end: to the logits, where that is
/// what a metric reads.
EdgeCircuit pruned(EdgeCircuit circuit, const EdgeEnds& ends);

/// A circuit with every edge is the model, and one without any is `empty`: these are not run again.
/// Circuits are pruned towards what the metric reads. Throws as `run_edges` does, and bad_argument
/// where m(model) = m(none).
Evaluation evaluate(const Model& model, const std::vector<EdgeCircuit>& circuits,
                    const Pairs& pairs, const EvaluationOptions& options = {},
                    const Progress& progress = {});

struct CurveOptions {
  EvaluationOptions evaluation = {};
  /// Parts of all edges: int(fraction x edges) are chosen, then pruned.
  std::vector<double> fractions = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0};
  bool greedy = false;  ///< chosen greedily from the logits, else by rank
  int baselines = 0;    ///< curves of random edges, of each kind
  std::uint64_t seed = 0;
};

struct CurvePoint {
  double fraction = 0.0;
  std::int64_t chosen = 0;  ///< edges before pruning
  CircuitValue value = {};
};

struct Curve {
  std::string name = {};  ///< "signed", "absolute", "random 1", "layers 1", "scores 1"
  std::vector<CurvePoint> points = {};
  /// The area under f, and of |1 - f|, over the fractions, by trapezoids: a curve from 0.001 to 1
  /// on which f is 1 has a CPR of 0.999 and a CMD of 0.
  Estimate cpr = {};
  Estimate cmd = {};
};

/// MIB's curves: edges by signed score, which its CPR is of, and by size, which its CMD is of, from
/// one set of plain runs; beside them as many random edges, and random edges matched to those of
/// the largest size by layers and by score (`matched_edges`).
struct CurveReport {
  Evaluation plain = {};  ///< without circuits
  std::vector<Curve> curves = {};
};
CurveReport evaluate_curve(const Model& model, const EdgeCircuit& scored, const Pairs& pairs,
                           const CurveOptions& options = {}, const Progress& progress = {});

/// What single edges of a circuit add to it.
struct EdgeNeed {
  std::int64_t edge = 0;
  Estimate loss = {};  ///< f(circuit) - f(circuit without the edge)
};
/// Of `sample` edges of the (pruned) circuit drawn at random, or of all if there are no more, by
/// falling size of the loss: a minimal circuit has none of 0.
std::vector<EdgeNeed> minimality(const Model& model, const EdgeCircuit& circuit, const Pairs& pairs,
                                 std::int64_t sample, const EvaluationOptions& options = {},
                                 std::uint64_t seed = 0, const Progress& progress = {});

/// How far the n edges of the largest scores depend on the pairs: the mean Jaccard index, and its
/// 95 % interval, of the top n of all pairs with those of `draws` bootstrap samples of them.
/// `each` [B, edges] are the scores of each pair, their mean being those of all. Throws
/// bad_argument.
Estimate top_stability(const at::Tensor& each, std::int64_t n, bool absolute, int draws = 100,
                       std::uint64_t seed = 0);

/// The same of a report with the scores of each pair, over the edges that were evaluated, by
/// absolute score and 100 samples. Throws bad_argument.
EdgeStability edge_stability(const EdgeReport& report, std::int64_t n, std::uint64_t seed = 0);

}  // namespace plumb
