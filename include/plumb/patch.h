// Activation patching: values of one run pasted into another, site by site, and what becomes of the
// answer (denoising and noising as in arXiv:2404.15255).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/progress.h"
#include "plumb/tiles.h"

namespace plumb {

/// Which run is patched, and which is pasted from.
enum class Direction {
  denoising,  ///< run corrupt, paste clean: what suffices to bring the answer back
  noising,    ///< run clean, paste corrupt: what the answer needs
};
const char* to_string(Direction direction) noexcept;
Direction parse_direction(const std::string& text);

/// Read at the last position of each prompt; p is the softmax of the logits there.
enum class MetricKind {
  logit_diff,  ///< logit of the right answer less that of the wrong one
  log_prob,    ///< ln p(right), nats
  prob,        ///< p(right)
  rank,        ///< number of tokens with a larger logit than the right answer's; 0 = on top
  kl,          ///< KL(p of the plain clean run || p), summed over the vocabulary, nats
  reverse_kl,  ///< KL(p || p of the plain clean run)
  js,          ///< Jensen-Shannon divergence of the two, nats
  custom,      ///< the user's function
};

struct Metric {
  MetricKind kind = MetricKind::logit_diff;
  /// For custom: logits [n, vocab] at the read positions of the pairs `pair` [n] int64, to [n].
  std::function<at::Tensor(const at::Tensor& logits, const at::Tensor& pair)> custom = {};
  std::string name = {};  ///< of a custom metric
};
std::string to_string(const Metric& metric);
/// "logit_diff", "log_prob", ...: throws bad_argument naming what there is.
Metric parse_metric(const std::string& text);

/// What a sweep goes over.
enum class SweepAxis { layer, position, head };
const char* to_string(SweepAxis axis) noexcept;

/// One site of every layer, cut along the axes named: {z, {layer, head}} patches each head at all
/// positions; {resid_pre, {layer, position}} the whole stream at one position.
struct SweepSpec {
  Part part = Part::resid_pre;
  std::vector<SweepAxis> axes = {SweepAxis::layer, SweepAxis::position};
  bool operator==(const SweepSpec&) const = default;
};
/// "resid_pre:layer,position". Throws bad_argument, saying what is allowed.
SweepSpec parse_sweep(const std::string& text);
std::string to_string(const SweepSpec& spec);

struct PatchOptions {
  Direction direction = Direction::denoising;
  Metric metric = {};
  bool raw = false;  ///< values as the metric gives them; else 0 = unpatched, 1 = pasted from
};

/// One sweep's results. Keys and values have an entry for each key head.
struct Sweep {
  SweepSpec spec = {};
  at::Tensor values = {};  ///< float64, an axis for each of the spec's: mean over pairs, (patched -
                           ///< unpatched) / (pasted from - unpatched) of the means, or raw
  at::Tensor each = {};    ///< float64, the same axes, then pairs: the raw metric
  std::vector<std::string> not_finite = {};  ///< sites at which the metric is NaN or infinite
};

struct PatchReport {
  PatchOptions options = {};
  at::Tensor clean = {};    ///< [B] float64: the metric on the plain clean run
  at::Tensor corrupt = {};  ///< [B]
  Estimate clean_mean = {};
  Estimate corrupt_mean = {};
  std::vector<Sweep> sweeps = {};
  std::int64_t evaluations = 0;        ///< token-layer evaluations made
  std::int64_t naive_evaluations = 0;  ///< those of one forward pass for each site
};

/// Runs the sweeps. Only what can differ from the unpatched run is computed: blocks from the site
/// on, positions from the patched one on, of the last block the position that is read. The work is
/// cut into tiles by the experiment alone, so that the results are the same bits for any number of
/// threads and ranks, and if finished tiles come from `tiles.store`.
/// Throws bad_argument if a sweep does not fit the model, or normalisation is asked for where clean
/// and corrupt runs have the same mean metric.
PatchReport patch(const Model& model, const Pairs& pairs, const std::vector<SweepSpec>& sweeps,
                  const PatchOptions& options = {}, const Progress& progress = {},
                  const Tiles& tiles = {});

}  // namespace plumb
