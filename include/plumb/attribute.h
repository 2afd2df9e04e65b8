// Path attribution: what an edge between two components is worth to a metric, by gradients (EAP,
// arXiv:2310.10348; EAP-IG, arXiv:2403.17806) or exactly, over pairs of prompts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/edges.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/progress.h"
#include "plumb/tiles.h"

namespace plumb {

// Signs. A score is an estimate of metric(clean run) - metric(clean run whose receiver reads the
// sender's corrupt value): positive = the edge raises the metric. By gradients it is (corrupt -
// clean write of the sender) times the gradient of -metric at what the receiver reads, before its
// norm, which is differentiated through. All are means over pairs.

/// How edges are scored, and at which points the gradient is taken.
enum class EdgeMethod {
  eap,                 ///< on the clean run
  eap_ig,              ///< mean over m runs whose token embeddings lie between corrupt and clean
  eap_ig_activations,  ///< mean over m runs for each component (the input, each block's attention,
                       ///< each MLP), whose write alone lies between corrupt and clean
  clean_corrupted,     ///< mean of the clean run and the corrupt one
  // Without gradients, one evaluation for each edge:
  direct,  ///< frozen path (as in goodfire-ai/causalab #17): what the receiver writes when it reads
           ///< the sender's corrupt value goes straight to the final stream, all other components
           ///< keep their clean values. Exact for this question
  exact,   ///< the whole effect (EAP-IG's `exact`): everything behind the receiver follows
};
/// Whether it takes gradients, and so is an estimate of `exact`.
bool is_estimate(EdgeMethod method) noexcept;
const char* to_string(EdgeMethod method) noexcept;
/// Throws bad_argument, saying what there is.
EdgeMethod parse_edge_method(const std::string& text);

/// Shares of the clean value at the m points of a path from corrupt to clean.
enum class IgPoints {
  left,       ///< k / m, k = 0 .. m - 1: begins corrupt, never clean; EAP-IG's for embeddings
  right,      ///< k / m, k = 1 .. m: ends clean; EAP-IG's for activations
  midpoint,   ///< (k + 1/2) / m, k = 0 .. m - 1
  trapezoid,  ///< k / m, k = 0 .. m, the two ends by half: m + 1 points
};
const char* to_string(IgPoints points) noexcept;
IgPoints parse_ig_points(const std::string& text);

/// What is pulled back from the metric to what receivers read.
enum class EdgeRules {
  gradient,  ///< derivatives
  relp,  ///< relevance patching (RelP, arXiv:2508.21258): the LN-, Identity- and Half-rule. Norms
         ///< divide by a scale that is held constant; an activation act(x) is x times act(x) / x,
         ///< the latter held; of a gated product each factor gets half. Sigmoid gates, routers
         ///< and norms on queries and keys are held as norms' scales are
  relp_ah,  ///< and its AH-rule: attention probabilities are held too, so that edges into queries
            ///< and keys score 0. Where the model has no biases, what crosses any cut then sums to
            ///< the metric, if that is linear in the logits
};
const char* to_string(EdgeRules rules) noexcept;
EdgeRules parse_edge_rules(const std::string& text);

struct EdgeOptions {
  EdgeMethod method = EdgeMethod::eap;
  int steps = 5;  ///< m, of the methods that integrate
  /// Left out: those of the method's reference, which are `left` for eap_ig and `right` for
  /// eap_ig_activations.
  std::optional<IgPoints> points = {};
  bool by_position = false;  ///< a score for every position of the prompts
  bool each = false;         ///< also every pair's own scores
  /// Of direct and exact: the edges that are evaluated; empty = all. Others score NaN.
  std::vector<std::int64_t> only = {};
  EdgeRules rules = EdgeRules::gradient;  ///< of the methods that take gradients
};

/// How far one set of scores agrees with another.
struct EdgeAgreement {
  std::int64_t edges = 0;  ///< that both score
  double pearson = 0.0;    ///< NaN where one of the two does not vary
  double spearman = 0.0;   ///< of ranks; equal scores share their mean rank
  std::int64_t top = 0;
  double overlap = 0.0;  ///< share of the `top` edges of largest absolute score that both have
};
/// How far the strongest edges depend on the pairs (`top_stability` of circuits).
struct EdgeStability {
  std::int64_t top = 0;
  int draws = 0;          ///< bootstrap samples of the pairs
  Estimate overlap = {};  ///< Jaccard index of the top edges of a sample with those of all pairs
};
/// Scores, and what they were computed from.
struct EdgeReport {
  EdgeOptions options = {};
  Metric metric = {};
  EdgeScores scores = {};
  at::Tensor each = {};     ///< float64 [B, edges], where asked for: their mean is the score
  at::Tensor clean = {};    ///< [B] float64: the metric on the clean run
  at::Tensor corrupt = {};  ///< [B]
  Estimate clean_mean = {};
  Estimate corrupt_mean = {};
  std::int64_t evaluations = 0;  ///< token-layer evaluations forwards
  std::int64_t backwards = 0;    ///< the same, backwards
  std::optional<EdgeAgreement> agreement =
      {};  ///< with exact effects, where `check_edges` was asked
  std::optional<EdgeStability> stability = {};  ///< where it was asked for
};

/// Scores every edge. What a head writes is `head_out`: where a norm follows attention's or the
/// MLP's write, a sender's write is taken through it, at each run's own scale, and gradients pass
/// through the norm. A metric that reads a block ends the graph there: the receiver `logits` stands
/// for the read-out, which has edges where the metric reads the stream itself (resid_pre,
/// resid_mid, mlp_in, norm scales ...); edges that the read-out cannot see are 0.
///
/// No tensor [B, T, heads, d_model] is made: senders are kept in d_head, and are multiplied out for
/// a few positions at a time. Pairs are cut into tiles by the experiment alone and added up in
/// their order in float64, so that the bits do not depend on the number of threads. Where a pair
/// has a map between positions, senders' corrupt values are those of the positions that belong
/// together.
///
/// `exact` runs for each edge only what can differ from the clean run: the blocks behind the
/// receiver, the positions from the first changed one on. `direct` runs each component once for
/// each sender, all its receivers together, of a head its queries, keys or values alone, and of an
/// MLP the positions that the metric reads.
///
/// Throws bad_argument where the pairs have no partners, the metric does not fit or has no gradient
/// (rank, and custom ones that are computed without it); unsupported for clean_corrupted with a
/// map, direct with a metric that reads a block, and direct or exact by position.
///
/// Tiles of `direct` and `exact` are kept, resumed and shared among ranks as those of `patch`, and
/// keep to `LoadOptions::memory`; estimates are made in one go.
EdgeReport edge_report(const Model& model, const Pairs& pairs, const Metric& metric = {},
                       const EdgeOptions& options = {}, const Progress& progress = {},
                       const Tiles& tiles = {});

/// Its scores alone.
EdgeScores attribute_edges(const Model& model, const Pairs& pairs, const Metric& metric = {},
                           const EdgeOptions& options = {}, const Progress& progress = {});

/// The edges of largest absolute score, falling; equal ones in their order. Of scores by position,
/// their sums. Edges without a score are left out.
std::vector<std::int64_t> strongest_edges(const EdgeScores& scores, std::int64_t count);

/// Over the edges that both score. Throws bad_argument if they are scores of different graphs, or
/// by position.
EdgeAgreement compare(const EdgeScores& a, const EdgeScores& b, std::int64_t top);

/// Holds an estimate against `exact` effects: of the `count / 2` edges of largest score and as many
/// of the rest, spread evenly over their ranks. Fills in `agreement`; top is a tenth of them.
void check_edges(EdgeReport& report, const Model& model, const Pairs& pairs, std::int64_t count,
                 const Progress& progress = {});

}  // namespace plumb
