// Node attribution: what patching one site would do to a metric, estimated by gradients for all
// sites at once (attribution patching; AtP*, arXiv:2403.00745; integrated gradients), and how much
// such an estimate may have missed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/attribute.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/progress.h"

namespace plumb {

// Signs. Positive = the node's clean value raises the metric, in both directions: noising estimates
// metric(clean run) - metric(clean run with the node's corrupt value), denoising metric(corrupt run
// with the node's clean value) - metric(corrupt run). The run that is patched is the base run.

enum class NodeMethod {
  atp,        ///< gradient on the base run, times clean - corrupt value (arXiv:2403.00745, eq. 4)
  atp_qk,     ///< the same, but of q and k: the softmax is computed anew with the other run's
              ///< queries or keys, and only what follows the pattern is linear (eqs. 7 to 10)
  atp_star,   ///< AtP*: atp_qk with GradDrop (eq. 11): the mean of absolute estimates, each without
              ///< the gradient through the writes of one block. Not negative
  ig,         ///< integrated gradients: the mean gradient on m runs in which one site of one block
              ///< alone, whole, lies between its value in the base run and in the other one. All
              ///< nodes of that site and block together sum to the effect of patching it whole
  ig_inputs,  ///< the mean gradient on m runs whose token embeddings lie between corrupt and clean
};
const char* to_string(NodeMethod method) noexcept;
/// "atp", "atp-qk", "atp*" or "atp-star", "ig", "ig-inputs". Throws bad_argument.
NodeMethod parse_node_method(const std::string& text);
/// Whether `parse_node_method` knows it.
bool is_node_method(const std::string& text) noexcept;

struct NodeOptions {
  NodeMethod method = NodeMethod::atp_star;
  Direction direction = Direction::noising;
  int steps = 10;                        ///< m, of the methods that integrate
  IgPoints points = IgPoints::midpoint;  ///< shares of the clean value
  bool each = false;                     ///< also every pair's own estimates
};

/// z, q, k and v by layer and head; attn_out, mlp_out and resid_pre by layer; and, where blocks
/// have experts, expert_out by layer and expert.
std::vector<SweepSpec> usual_nodes(const ModelConfig& config);

/// Estimates for the nodes of one sweep. Tensors are float64 and have an axis for each of the
/// spec's; NaN where the layer has no such site.
struct NodeSweep {
  SweepSpec spec = {};
  at::Tensor scores = {};      ///< what nodes are ranked by: `effects`; of atp_star `magnitudes`
  at::Tensor effects = {};     ///< mean over pairs, with its sign; of atp_star without GradDrop
  at::Tensor magnitudes = {};  ///< mean over pairs of the absolute estimate; of atp_star GradDrop's
  /// Doubt: mean over pairs of largest less smallest of the pair's estimates for the node, which
  /// are: of atp_qk and atp_star, of q and k, with and without the softmax computed anew; of
  /// atp_star, those without one block; of ig and ig_inputs, those by each single step. 0 of atp.
  at::Tensor doubts = {};
  at::Tensor each = {};          ///< of effects, an axis more: pairs; where asked for
  std::vector<int> absent = {};  ///< layers without the site
};

/// One node of a report: an entry of a sweep, row-major.
struct NodeRef {
  std::size_t sweep = 0;
  std::int64_t index = 0;
  bool operator==(const NodeRef&) const = default;
};

/// Which nodes are patched in truth. Those that the metric cannot see are none.
struct NodeCheckOptions {
  std::int64_t strongest = 10;  ///< of largest absolute score
  std::int64_t doubtful = 10;   ///< of the others, those of largest doubt; of equal doubt, the next
                                ///< by score
  std::int64_t sampled = 10;    ///< drawn from the rest, each with the same chance
  /// Random sets of the nodes of a sweep that are neither strongest nor doubtful, patched together:
  /// so many for each sweep but those of streams, whose nodes hide one another. 0 = none, else
  /// at least 4.
  std::int64_t sets = 0;
  double share = 0.25;  ///< chance of a node to be in a set
  double confidence = 0.95;
  std::uint64_t seed = 0;
};

enum class CheckedAs { strongest, doubtful, sampled };
struct CheckedNode {
  NodeRef node = {};
  CheckedAs as = CheckedAs::strongest;
  double score = 0.0;
  double exact = 0.0;  ///< what the score estimates: the mean effect of patching; of atp_star the
                       ///< mean over pairs of the absolute effect
};

/// Of the nodes of one sweep that are neither strongest nor doubtful, from random sets of them.
struct SetBound {
  std::size_t sweep = 0;
  std::int64_t nodes = 0;
  double deviation = 0.0;  ///< standard deviation of the sets' mean effects
  /// At the confidence, no node's mean effect, averaged over random sets of the others that are
  /// patched with it, is larger in absolute value; where effects add up, that is its effect.
  double bound = 0.0;
};

/// What patching in truth says of an estimate.
struct NodeCheck {
  NodeCheckOptions options = {};
  std::vector<CheckedNode> nodes = {};
  double spearman = 0.0;  ///< of absolute scores and absolute exact effects, over all that were
                          ///< verified; NaN where one does not vary
  double pearson = 0.0;   ///< of scores and exact effects
  double spearman_sampled = 0.0;  ///< over the sampled ones alone
  /// The largest exact effect, by absolute value, among those that the estimate did not put among
  /// its strongest: what was missed, as far as was seen. None where all were strongest.
  std::optional<CheckedNode> missed = {};
  std::int64_t missed_rank = 0;  ///< the rank that its effect has among those verified, from 1
  std::int64_t nodes_seen = 0;   ///< nodes that the metric can see
  std::int64_t rest = 0;         ///< of these, neither strongest nor doubtful
  double largest_sampled = 0.0;  ///< largest absolute exact effect of the sample
  /// At the confidence, at most so many of the rest have a larger absolute effect than any of the
  /// sample: exact for sampling without replacement, with no assumption on the effects.
  std::int64_t may_exceed = 0;
  std::vector<SetBound> sets = {};
  std::int64_t evaluations = 0;  ///< token-layer evaluations of patching
};

struct NodeReport {
  NodeOptions options = {};
  Metric metric = {};
  std::vector<NodeSweep> sweeps = {};
  std::string convention = {};  ///< what a score is, in a sentence
  at::Tensor clean = {};        ///< [B] float64: the metric on the clean run
  at::Tensor corrupt = {};      ///< [B]
  Estimate clean_mean = {};
  Estimate corrupt_mean = {};
  std::int64_t evaluations = 0;  ///< token-layer evaluations forwards
  std::int64_t backwards = 0;    ///< the same, backwards
  std::optional<NodeCheck> check = {};
};

/// Estimates for every node of the sweeps: of any of resid_pre, q, k, v, pattern, z_gate, z,
/// attn_out, resid_mid, mlp_pre, mlp_up, mlp_post, expert_out, shared_out, mlp_out and resid_post,
/// cut along any of their axes, as `patch` takes them. A node without the axis position is the site
/// at all positions together. Keys and values have a node for each key head; of q and k without
/// the axis position atp_qk and atp_star paste all positions' at once.
///
/// The gradient is taken block by block, each block being run again with a graph that is let go of;
/// of all blocks only the streams are kept. GradDrop takes every block's gradients for the plain
/// pass and for one pass for each block behind it. Pairs are cut into tiles by the experiment alone
/// and added up in their order in float64, so that the bits do not depend on the number of threads.
///
/// Throws bad_argument where a sweep does not fit, the pairs have no partners, the metric does not
/// fit or has no gradient; unsupported for pattern where a map aligns the prompts.
NodeReport node_report(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& nodes,
                       const Metric& metric = {}, const NodeOptions& options = {},
                       const Progress& progress = {});

/// The node's site: "L3.z[h=1]".
std::string node_name(const NodeReport& report, NodeRef node);
double node_score(const NodeReport& report, NodeRef node);
/// Nodes of largest absolute score, falling; equal ones in their order. NaN are left out.
std::vector<NodeRef> strongest_nodes(const NodeReport& report, std::int64_t count);

/// Patches nodes of the report in truth, with its pairs, and fills in `check`.
void check_nodes(NodeReport& report, const Model& model, const Pairs& pairs,
                 const NodeCheckOptions& options = {}, const Progress& progress = {});

/// The largest number of N nodes that can have larger effects than all of `sampled` drawn from them
/// without replacement, unless something of probability below 1 - confidence has happened.
std::int64_t most_exceeding(std::int64_t nodes, std::int64_t sampled, double confidence);

}  // namespace plumb
