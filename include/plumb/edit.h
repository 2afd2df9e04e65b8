// Changed models: a sink taken out of the weights or knocked out while a model runs, and what that
// costs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/inputs.h"
#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/plan.h"
#include "plumb/progress.h"

namespace plumb {

/// What shares one scale when numbers are rounded.
enum class Rounding {
  per_token,   ///< the entries of one position
  per_tensor,  ///< all positions of one sequence
};
const char* to_string(Rounding rounding) noexcept;  ///< "per_token", "per_tensor"

/// x [B, T, ...] rounded symmetrically to so many bits: with s = max|x| / (2^(bits - 1) - 1),
/// s round(x / s), ties to even; what is all zero stays so.
at::Tensor rounded(const at::Tensor& x, int bits, Rounding rounding);

/// Edits may be combined; components are named like "m0+m1" or "a0".
struct EditOptions {
  // In the weights.
  at::Tensor direction = {};  ///< [d_model], any length: taken out of what `writers` write
  std::string writers = {};   ///< empty: every component
  std::string silence = {};   ///< components that write nothing any more, at no position
  /// A slot that every query sees beside its keys: score `sink_slot` in all heads, value 0. In the
  /// weights of a family with learned sink logits; a family without them cannot express it.
  std::optional<double> sink_slot = {};
  // While the model runs.
  std::string knock_out = {};  ///< their writes at position 0 become the mean of the later ones
  std::int64_t window = 0;     ///< a query sees its last `window` keys, 0 = all ...
  std::int64_t keep = 0;       ///< ... and the first `keep` (arXiv:2309.17453), in every layer
  // What is measured.
  std::vector<int> bits = {8, 4};  ///< of rounded activations, 2 to 16 each; empty = none
  double epsilon = 0.3;  ///< a head whose mean attention to position 0 exceeds it is a sink head
};
/// Throws bad_argument.
void check(const EditOptions& options, const ModelConfig& config);

/// The sink's own direction: the mean state of position 0 where the strongest wave begins,
/// normalised, and the components before it. Throws bad_argument where the inputs show no wave.
struct SinkDirection {
  at::Tensor direction = {};  ///< [d_model] float64
  int onset = 0;
  std::string writers = {};  ///< "a0+m0+a1+m1"
};
SinkDirection find_sink_direction(const Model& model, const Inputs& inputs);

/// A model with other weights.
struct EditedModel {
  Model model;
  std::vector<std::string> changed = {};  ///< weights, by `weight_name`
  /// Why no checkpoint can hold all of the edit; empty if one can.
  std::string not_written = {};
};
/// Throws bad_argument, also where a write goes through a norm, which would bring the direction
/// back.
EditedModel edit_weights(const Model& model, const EditOptions& options);

/// Interventions that hide keys outside the window, but for the first `keep`, from sequences of T
/// tokens.
std::vector<Intervention> window_edits(int layers, std::int64_t T, std::int64_t window,
                                       std::int64_t keep);

/// Of a model with rounded activations: what every matrix of a block reads (the stream before its
/// norms, what heads mix, neurons of a dense MLP) and what the final norm reads.
struct RoundedState {
  int bits = 0;
  Rounding rounding = Rounding::per_token;
  Estimate first_error = {};   ///< |rounded - h| / |h| of position 0, mean over layers
  Estimate others_error = {};  ///< the same, mean over later positions too
  Estimate loss = {};
  Estimate loss_change = {};  ///< against the same model unrounded
};

/// A mean over sequences each.
struct EditState {
  Estimate loss = {};       ///< nats per predicted token
  Estimate sink_rate = {};  ///< share of the heads of all layers that are sink heads
  Estimate sink_mass = {};  ///< attention to position 0, mean over later queries, heads and layers
  Estimate slot_mass = {};  ///< attention to sink logits, likewise; NaN without them
  Estimate largest = {};    ///< max |h|, over positions, channels and blocks' outputs
  Estimate ratio = {};      ///< max |h| over the median |h| of the same output, largest of all
  std::vector<RoundedState> rounded = {};
  at::Tensor each = {};  ///< [sequence, 6] float64: the six above, of every sequence
};

struct EditReport {
  EditOptions options = {};
  double null = 0;  ///< sink mass of uniform attention
  EditState before = {};
  EditState after = {};
  EditState change = {};  ///< sequence by sequence; of `rounded` only losses and errors
  std::int64_t evaluations = 0;
};

/// Measures the model as it is and edited. Throws bad_argument where sequences have under 3 tokens.
EditReport measure_edit(const Model& model, const EditedModel& edited, const Inputs& inputs,
                        const EditOptions& options, const Progress& progress = {});

/// Writes the edited weights (float32, or the model's dtype where that is narrower) as a Hugging
/// Face directory, and the tokenizer of `source` beside them; returns why there is none, or "".
/// Throws bad_argument where `not_written` says so, or the directory holds a model already.
std::string write_edited(const EditedModel& edited, const Checkpoint& source,
                         const std::filesystem::path& directory);

}  // namespace plumb
