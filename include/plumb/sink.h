// Attention sinks measured: how much attention position zero draws, layer by layer, and what its
// residual stream looks like.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/cost.h"
#include "plumb/inputs.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/progress.h"

namespace plumb {

/// Which queries enter a key's importance (arXiv:2410.10781 uses `all`).
enum class Queries {
  all,          ///< every query that can see the key, the key's own included
  no_self,      ///< queries after the key; query 0 does not count for key 0
  second_half,  ///< of those, the queries of the second half of the sequence
  last,         ///< the last query alone
};
/// Whether heads are compared with epsilon sequence by sequence, or after averaging.
enum class Pool { per_sample, pooled };

const char* to_string(Queries queries) noexcept;
const char* to_string(Pool pool) noexcept;
Queries parse_queries(const std::string& text);
Pool parse_pool(const std::string& text);

struct SinkOptions {
  double epsilon = 0.3;  ///< a head is a sink head above this
  Queries queries = Queries::no_self;
  Pool pool = Pool::per_sample;
  double wave_threshold =
      0.15;  ///< mean sink from which a layer belongs to a wave; never under twice the null
  double step_up =
      2.0;  ///< norm ratio of position 0, relative to the median position's, that counts as a step
  double step_down = 0.5;
  double secondary_norm =
      4.0;  ///< a position t > 0 with this many times the median norm is a secondary spike
  double secondary_sink =
      0.1;  ///< ... and draws at least this mean attention to be a secondary sink
};
void check(const SinkOptions& options);

/// A maximal run of layers with a sink at position zero.
struct Wave {
  int onset = 0;    ///< first layer
  int last = 0;     ///< last layer
  int peak = 0;     ///< layer with the largest mean sink
  double mean = 0;  ///< mean sink over its layers and heads
};

/// A site at which the norm of position 0 jumps, against the median position's ratio.
struct Step {
  std::string site = {};  ///< "m2": the component whose write does it
  int layer = 0;
  bool mlp = false;
  double ratio = 0;         ///< norm after / norm before at position 0
  double median_ratio = 0;  ///< the same at the median position
};

/// A position t > 0 that is a sink as well.
struct SecondarySink {
  int layer = 0;  ///< onset of the wave in which it was seen
  std::int64_t token = 0;
  std::int64_t count = 0;  ///< positions with this token that are
  double sink = 0;         ///< mean attention they draw, over the heads of the wave's peak layer
  double norm_ratio = 0;   ///< their norm over the median
};

/// Statistics of one run over the inputs. B sequences, L layers, H heads, T positions. Index j of
/// a profile counts half layers: j = 2l enters block l, j = 2l + 1 lies between its attention and
/// MLP, j = 2L leaves the last block.
struct SinkSurvey {
  SinkOptions options = {};
  std::string inputs_kind = {};
  std::optional<std::int64_t> bos = {};
  std::string inputs_sha256 = {};
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  double null = 0;              ///< mean sink of uniform causal attention
  at::Tensor sink = {};         ///< [B, L, H] attention to position 0, mean over the chosen queries
  at::Tensor mean = {};         ///< [L, H] of it over sequences
  at::Tensor rate = {};         ///< [L] share of heads above epsilon
  at::Tensor layer_mean = {};   ///< [L]
  at::Tensor sink_mass = {};    ///< [L, H] mean probability of the learned sink logit; undefined
                                ///< where heads have none
  at::Tensor received = {};     ///< [B, L, T] mean attention each key draws, over heads
  at::Tensor norm = {};         ///< [B, 2L + 1, T] length of the residual stream
  at::Tensor p0_norm = {};      ///< [2L + 1] mean over sequences
  at::Tensor median_norm = {};  ///< [2L + 1] median over positions t > 0 and sequences
  at::Tensor p0_cosine =
      {};  ///< [2L + 1] mean cosine of position 0's state to its mean over sequences
  at::Tensor profile_positions = {};  ///< [P] positions of the next two
  at::Tensor cosine = {};             ///< [2L + 1, P] the same for a few positions
  at::Tensor variance = {};       ///< [2L + 1, P] mean squared distance to the mean over sequences
  at::Tensor p0_mean_state = {};  ///< [2L + 1, d_model]
  at::Tensor separability =
      {};  ///< [2L + 1] area under the curve of a linear detector of position 0, trained
           ///< on every other sequence and tested on the rest; undefined under 4 sequences
  Estimate loss = {};  ///< mean nats per predicted token; NaN where the last block is not loaded
  std::vector<Wave> waves = {};
  std::vector<Step> steps = {};  ///< up and down, in order
  std::vector<SecondarySink> secondary = {};
  std::int64_t evaluations = 0;
};

/// Mean attention that position 0 draws from uniform causal attention over T positions.
double uniform_sink(std::int64_t length, Queries queries);

/// Runs the model once over the inputs. Throws bad_argument if the sequences are shorter than 2.
SinkSurvey survey_sink(const Model& model, const Inputs& inputs, const SinkOptions& options = {},
                       const Progress& progress = {});

/// What `survey_sink` costs on inputs of this shape.
RunCost foresee_survey(const Model& model, std::int64_t sequences, std::int64_t length);

/// Mean rate over layers from `start_layer` (arXiv:2603.06591 Eq. 2).
double sink_rate_from(const SinkSurvey& survey, int start_layer);

/// Maximal runs of layers whose mean sink reaches the threshold.
std::vector<Wave> find_waves(const at::Tensor& layer_mean, double threshold);

}  // namespace plumb
