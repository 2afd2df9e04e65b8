// Over-mixing: how far what stands at one position spreads to the others, layer by layer, with the
// sink at position 0 and without it (arXiv:2504.02732, arXiv:2406.04267).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/plan.h"
#include "plumb/progress.h"

namespace plumb {

struct MixOptions {
  /// Sets of components, "m1+m2" or "a0": each set makes a condition in which what they write at
  /// position 0 is their mean over the later positions of the sequence, as the plain run has it.
  std::vector<std::string> knock_outs = {};
  /// The token that is changed, counted without BOS; -1 = a quarter of the shortest sequence.
  std::int64_t position = -1;
  std::int64_t bands = 20;  ///< of the unembedding's singular vectors (arXiv:2402.09221)
  std::int64_t jacobian_sequences = 2;  ///< 0 = no Jacobians
  std::int64_t jacobian_length = 64;    ///< positions of them
  /// Random vectors of +1 and -1 that a Jacobian's norm is estimated from; 0 = all unit vectors,
  /// which is exact and takes d_model backward passes.
  std::int64_t probes = 16;
  std::uint64_t seed = 0;
};
/// Throws bad_argument.
void check(const MixOptions& options, const Model& model);

/// What `MixState::factors` holds, along its last axis. k_0: key at position 0; k_t: keys at 0 < t
/// <= query; means are over queries after position 0, and over pairs of query and key.
enum class LogitFactor {
  query_norm,
  first_key_norm,
  key_norm,
  first_cosine,
  cosine,
  first_logit,
  logit
};
inline constexpr std::int64_t logit_factors = 7;

/// Of one sequence: how the last position's final state depends on the embedding at each position.
struct Reach {
  at::Tensor jacobian = {};  ///< [T] Frobenius norm of d h_last[L] / d h_i[0]
  /// [T] the last row of A_L ... A_1, where A_l = sum over heads of the pattern + 1 / H on the
  /// diagonal: a sum over all causal paths (Theorem 3.2 of arXiv:2504.02732 without its constant)
  at::Tensor path = {};
  double constant = 0;     ///< smallest C with jacobian <= C^L path at every position
  double correlation = 0;  ///< Spearman's, of the two over positions
};

/// One condition. B sequences, L layers, H heads, T positions; index l < L of a stream is where
/// block l is entered, L where the last is left. Means are over sequences.
struct MixState {
  std::string name = {};  ///< "plain", "no_bos", "column0", "m1+m2"
  std::int64_t length = 0;
  std::int64_t position = 0;  ///< of the changed token
  Estimate loss = {};         ///< nats per predicted token, of the same tokens in every condition
  Estimate loss_change = {};  ///< against `plain`, sequence by sequence
  at::Tensor sink = {};       ///< [L] attention to position 0, mean over later queries and heads
  /// [L] the most that any later position of the first half draws, mean over heads and over the
  /// queries after it: where the sink went if it only moved
  at::Tensor rival = {};
  at::Tensor entropy = {};        ///< [L] of attention in nats, likewise
  at::Tensor rank_distance = {};  ///< [L + 1] |V - mean row| (Frobenius)
  at::Tensor rank_collapse = {};  ///< [L + 1] the same over |V|: 0 where all positions are equal
  at::Tensor last_distance = {};  ///< [L + 1] |v_n - v_{n-1}| of the last two positions
  at::Tensor last_relative = {};  ///< [L + 1] the same over the mean of their norms
  at::Tensor change = {};    ///< [L + 1, T] |change of the state| when the token is another; NaN
                             ///< past the end of all sequences
  at::Tensor relative = {};  ///< [L + 1, T] the same over the state's norm
  Estimate spread = {};      ///< mean of `change` over positions after the token, last layer
  Estimate relative_spread = {};  ///< of `relative`
  Estimate spread_change = {};    ///< of the relative spread against `plain`
  at::Tensor value_drain =
      {};  ///< [L, H] |W_O v_0| over its mean over positions (arXiv:2410.13835)
  at::Tensor value_ratio = {};  ///< [L, H] the same of |v|
  at::Tensor honor = {};        ///< [L, H] mean |z| over positions, over its mean over heads
                                ///< (arXiv:2504.03889)
  at::Tensor factors = {};      ///< [L, H, 7] see `LogitFactor` (arXiv:2410.10781)
  at::Tensor energy = {};       ///< [L + 1, 2, bands] share of |h|^2 in each band, the largest
                                ///< singular values first: at position 0, and mean of the others
  std::vector<Reach> reach = {};
};

struct MixReport {
  MixOptions options = {};
  std::vector<std::string> replaced = {};  ///< components of each knock-out
  std::vector<MixState> states = {};       ///< plain first
  std::int64_t evaluations = 0;
};

/// Evaluations that `measure_mix` takes, forward passes and backward ones alike.
std::int64_t foresee_mix(const Model& model, const Inputs& inputs, const MixOptions& options);

/// Measures all conditions: the inputs as they are, without their BOS if they have one, with column
/// 0 hidden from every later query, and each knock-out. In sequence b the token at the position is
/// changed into `replacements[b]`. Throws bad_argument.
MixReport measure_mix(const Model& model, const Inputs& inputs,
                      const std::vector<std::int64_t>& replacements, const MixOptions& options = {},
                      const Progress& progress = {});

/// Of one sequence of ids [1, T] under the edits. `probes` and `seed` as in `MixOptions`.
Reach measure_reach(const Model& model, const at::Tensor& ids,
                    const std::vector<Intervention>& edits, std::int64_t probes,
                    std::uint64_t seed);

/// [L] for each block, the largest |d h_j[l + 1] / d h_i[l]| / A_l[j, i] (Frobenius) over all pairs
/// i <= j: with these, the product of the constants times `Reach::path` bounds `Reach::jacobian`.
/// Takes T d_model backward passes through each block.
std::vector<double> block_constants(const Model& model, const at::Tensor& ids,
                                    const std::vector<Intervention>& edits = {});

}  // namespace plumb
