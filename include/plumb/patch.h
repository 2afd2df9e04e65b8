// Activation patching: values of one run pasted into another, site by site, and what becomes of the
// answer (denoising and noising as in arXiv:2404.15255).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/progress.h"
#include "plumb/replacement.h"
#include "plumb/tiles.h"

namespace plumb {

/// Which run is patched, and which is pasted from.
enum class Direction {
  denoising,  ///< run corrupt, paste clean: what suffices to bring the answer back
  noising,    ///< run clean, paste corrupt: what the answer needs
};
const char* to_string(Direction direction) noexcept;
Direction parse_direction(const std::string& text);

/// What is read off a run. p is the softmax of the logits at the last position of each prompt.
/// Where several answers are as good, logits are means over them and probabilities sums.
enum class MetricKind {
  logit_diff,  ///< logit of the right answer less that of the wrong one
  log_prob,    ///< ln p(right), nats
  prob,        ///< p(right)
  prob_diff,   ///< p(right) - p(wrong)
  rank,        ///< number of tokens with a larger logit than the right answer's (of several, the
               ///< best one's); 0 = on top
  kl,          ///< KL(p of the unpatched clean run || p), summed over the vocabulary, nats
  reverse_kl,  ///< KL(p || p of the unpatched clean run)
  js,          ///< Jensen-Shannon divergence of the two, nats
  loss,        ///< mean over positions of -ln p(next token of the clean prompt), nats
  attention,   ///< attention on chosen keys: their sum, mean over heads and queries
  norm,        ///< length along the last axis of a site, mean over its positions and heads
  projection,  ///< component along a direction of a site, mean over its positions and heads
  custom,      ///< the user's function
};

struct Metric {
  MetricKind kind = MetricKind::logit_diff;
  /// For custom: logits [n, vocab] at the read positions of the pairs `pair` [n] int64, to [n].
  std::function<at::Tensor(const at::Tensor& logits, const at::Tensor& pair)> custom = {};
  std::string name = {};  ///< of a custom metric
  /// Of loss: positions whose next token is predicted; empty = all of each prompt.
  std::vector<std::int64_t> positions = {};
  /// Of attention (a pattern with keys), norm and projection: what is read, in a block. Attention
  /// without queries means those after the keys; padding is left out.
  SlicedSite site = {};
  at::Tensor direction = {};        ///< of projection: [width of the last axis], any length
  std::string direction_name = {};  ///< where it came from
};
/// Whether the metric reads a site of a block, and not the logits.
bool reads_block(const Metric& metric) noexcept;
std::string to_string(const Metric& metric);
/// "logit_diff", "loss", "loss@3,4", "sink:5" (attention of layer 5 on position 0), "sink:5.2" (of
/// its head 2), "attention:L5.pattern[h=2;t=7;k=0,1]", "norm:L3.resid_post[t=0]",
/// "projection:L3.resid_post[t=0]:FILE". Throws bad_argument naming what there is.
Metric parse_metric(const std::string& text,
                    const std::function<at::Tensor(const std::string&)>& vector = read_vector);

/// What a sweep goes over. `query` is the position of rows of scores and pattern; `neuron` an entry
/// of mlp_pre, mlp_up or mlp_post; `set` one of several sets of sites.
enum class SweepAxis { layer, position, head, neuron, expert, query, key, set };
const char* to_string(SweepAxis axis) noexcept;

/// Sites that are patched together.
struct SiteSet {
  std::string name = {};
  std::vector<SlicedSite> sites = {};
  bool operator==(const SiteSet&) const = default;
};
/// "L0-2.z[h=*;t=0] L3.mlp_out". `layers` resolves "*". Throws bad_argument.
SiteSet parse_site_set(const std::string& text, int layers);

/// One site of every layer, cut along the axes named: {z, {layer, head}} patches each head at all
/// positions; {resid_pre, {layer, position}} the whole stream at one position; {pattern, {layer,
/// head, query, key}} each entry. Or, where `sets` is not empty, those sets, one after another:
/// the axis is then `set`, and `part` means nothing.
struct SweepSpec {
  Part part = Part::resid_pre;
  std::vector<SweepAxis> axes = {SweepAxis::layer, SweepAxis::position};
  std::vector<SiteSet> sets = {};
  bool operator==(const SweepSpec&) const = default;
};
/// "resid_pre:layer,position". Of embed and pos_embed, which occur once, "embed:position". Throws
/// bad_argument, saying what is allowed.
SweepSpec parse_sweep(const std::string& text);
/// The same, or the name of a bundle: "every" is resid_pre, attn_out and mlp_out by layer and
/// position; "every-head" is z, q, k, v and pattern by layer and head.
std::vector<SweepSpec> parse_sweeps(const std::string& text);
SweepSpec sweep_of_sets(std::vector<SiteSet> sets);
std::string to_string(const SweepSpec& spec);

struct PatchOptions {
  Direction direction = Direction::denoising;
  Metric metric = {};
  /// Values as the metric gives them; else 0 = unpatched, 1 = pasted from. Of prompts without a
  /// partner that is the change, patched less unpatched.
  bool raw = false;
  Replacement replacement = {};      ///< what the sweeps' sites become
  std::vector<FixedEdit> with = {};  ///< made in every run; their values come from the plain runs
  bool intervals = false;            ///< 95 % bootstrap intervals of the values, over pairs
};

/// One sweep's results. Keys and values have an entry for each key head.
struct Sweep {
  SweepSpec spec = {};
  at::Tensor values = {};  ///< float64, an axis for each of the spec's: mean over pairs, (patched -
                           ///< unpatched) / (pasted from - unpatched) of the means, or raw; NaN
                           ///< where the layer has no such site
  at::Tensor low = {};     ///< bounds of the intervals, where they were asked for: pairs are drawn
  at::Tensor high = {};    ///< for all runs at once
  at::Tensor each = {};    ///< float64, the same axes, then pairs: the raw metric
  std::vector<std::string> not_finite = {};  ///< sites at which the metric is NaN or infinite
  std::vector<int> absent = {};              ///< layers without the site
};

/// What MLPs do between a sender and its receivers.
enum class PathMlps {
  frozen,      ///< they keep their values: MLPs are nodes of their own, as heads are
  recomputed,  ///< they see what was sent: MLPs are part of the way
};
const char* to_string(PathMlps mlps) noexcept;
PathMlps parse_path_mlps(const std::string& text);

/// Where senders' values go; attention heads on the way keep theirs.
struct Paths {
  /// Inputs that are patched in the end: q, k, v (by head; k and v by key head), q_in, k_in, v_in,
  /// mlp_in, resid_pre, resid_mid, resid_post, by position where wanted; or resid_final or logits
  /// alone.
  std::vector<SlicedSite> receivers = {};
  /// Nodes on the way, one list for each hop: heads, by what they read (q, k or v), and MLPs
  /// (mlp_in).
  std::vector<std::vector<SlicedSite>> via = {};
  PathMlps mlps = PathMlps::frozen;
};

struct PatchReport {
  PatchOptions options = {};
  bool paired = true;       ///< false: prompts without a partner; `corrupt` is as `clean`
  at::Tensor clean = {};    ///< [B] float64: the metric on the clean run, unpatched
  at::Tensor corrupt = {};  ///< [B]
  Estimate clean_mean = {};
  Estimate corrupt_mean = {};
  std::vector<Sweep> sweeps = {};
  std::optional<Paths> paths = {};     ///< of path patching: the sweeps are over senders
  std::int64_t evaluations = 0;        ///< token-layer evaluations made
  std::int64_t naive_evaluations = 0;  ///< those of one forward pass for each site
};

/// Runs the sweeps. Only what can differ from the unpatched run is computed: blocks from the site
/// on, positions from the patched one on, of the last block the positions that are read; where the
/// metric reads a site of a block, nothing after that block. The work is cut into tiles by the
/// experiment alone, so that the results are the same bits for any number of threads and ranks, and
/// if finished tiles come from `tiles.store`. Pairs are run in groups, unless replacements are
/// means over examples or come from other examples. Throws bad_argument if a sweep does not fit the
/// model, or normalisation is asked for where clean and corrupt runs have the same mean metric.
PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options = {}, const Progress& progress = {},
                  const Tiles& tiles = {});

}  // namespace plumb
