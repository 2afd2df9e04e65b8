// What every step of the P0 job shares: the clean run, what to put in place of a component, and one
// way to run an intervention and read it.
#pragma once

#include <ATen/core/Tensor.h>

#include <compare>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plumb/p0.h"
#include "plumb/run.h"

namespace plumb {

/// One write into the residual stream: attention or MLP of a block.
struct Component {
  int layer = 0;
  bool mlp = false;
  auto operator<=>(const Component&) const = default;
};

std::string to_string(Component component);                       ///< "a3", "m3"
std::string to_string(const std::vector<Component>& components);  ///< "m1+m2"
Site output_site(Component component);
/// a0, m0, a1, ... of the blocks [first, last).
std::vector<Component> components_of_blocks(int first, int last);

/// What an intervention run leaves, before it is read for one wave.
struct Outcome {
  std::vector<at::Tensor>
      received;  ///< [layers run]: [B, T] attention drawn by each key, over heads
  std::vector<at::Tensor>
      onset_norm;   ///< [waves]: [B, T] norm at the wave's onset; undefined = not reached
  at::Tensor loss;  ///< [B]; undefined where the run stopped early
  // After `P0Context::watch` alone:
  std::vector<at::Tensor> rate;  ///< [layers run]: [B, T] share of heads above epsilon, by key
  at::Tensor kl;  ///< [B] KL(clean || this run); undefined where the run stopped early
};

/// Values of one component over the causal sequences, each [B, 1, d_model].
struct ComponentValues {
  at::Tensor own;               ///< at position 0
  at::Tensor mean;              ///< mean over t > 0
  at::Tensor resample;          ///< at one random t > 0
  at::Tensor displaced;         ///< of the same token behind a prefix
  at::Tensor control;           ///< at the control position
  at::Tensor control_resample;  ///< at another position, to put there
};

/// Instead of a number of sequences.
constexpr std::int64_t all_sequences = -1;

class P0Context {
 public:
  /// Runs the clean and the displaced pass. `inputs` are those of the condition, whole.
  P0Context(const Model& model, const Inputs& inputs, const P0Options& options,
            std::vector<Wave> waves, const SinkSurvey& survey, const Progress& progress);

  const Model& model;
  const P0Options& options;
  const std::vector<Wave> waves;
  Inputs inputs;  ///< the causal sequences
  Outcome clean;
  std::vector<double> spike_norm;  ///< [waves] norm above which a position spikes at the onset
  /// [waves] unit vector [d_model]: mean state of position 0 at the onset; where it does not spike,
  /// the mark of position 0.
  std::vector<at::Tensor> direction;
  std::map<Component, ComponentValues> values;
  at::Tensor displaced_ids;  ///< [B, T] the sequences behind a prefix
  std::int64_t evaluations = 0;

  int layers() const { return model.config().layers; }
  std::int64_t control_position() const { return control_position_; }
  /// Null of the sink at a column: what uniform causal attention gives it.
  double null_at(std::int64_t position) const;

  /// Runs the causal sequences under the edits, from the first edited block, up to `until`
  /// (exclusive; nullopt = all the way, with the loss); or the first few sequences alone, for each
  /// of which the edits have a row.
  Outcome intervene(const std::vector<Intervention>& edits, std::optional<int> until,
                    std::int64_t sequences = all_sequences);
  /// The same on the displaced sequences, from the start.
  Outcome intervene_displaced(const std::vector<Intervention>& edits, int until);
  /// The same on other tokens of the same shape, or other position ids, from the start.
  Outcome intervene_tokens(const Tokens& tokens, const std::vector<Intervention>& edits,
                           std::optional<int> until);
  /// From now on outcomes also hold sink rates and the divergence from the clean run.
  void watch();

  /// Puts something else in place of components at position 0, in the first few sequences or all.
  std::vector<Intervention> replace(const std::vector<Component>& components, Ablation ablation,
                                    std::int64_t sequences = all_sequences) const;

  /// Stream entering a block in the clean run, [B, T, d_model]. Kept up to the last onset.
  const at::Tensor& stream(int layer) const { return stream_[static_cast<std::size_t>(layer)]; }

  bool has_stream(int layer) const { return layer < static_cast<int>(stream_.size()); }

  /// Whether position 0 stands out by its norm where the wave begins. Small models have sinks that
  /// do not; the attention drawn is then all that tells a sink from another position.
  bool spikes(std::size_t wave) const {
    return clean.onset_norm[wave].select(1, 0).mean().item<double>() > spike_norm[wave];
  }

  /// Mean sink of position 0 in the clean run over the wave's layers before `last`.
  double p0_sink(std::size_t wave, int last) const;

  /// Reads an outcome for one wave, about one position. One of the first few sequences alone is
  /// read by its difference from the clean run of these: what is told of position 0 is that
  /// difference on top of the clean run of all.
  Effect read(std::size_t wave, const Outcome& outcome, std::int64_t position, std::string name,
              std::string kind, std::string where) const;

  void tell(const std::string& what, double done) const;

 private:
  /// What tells position 0 apart where its norm does not, entering a block [d_model]: the mean
  /// state of the tokens at t > 0, each put first, less their mean state where they stand. Beside a
  /// spike what all positions share is nothing; without one no head can tell position 0 by it. The
  /// tokens are the same on both sides, so that what is left is position alone: the few tokens that
  /// happen to stand first would leave traces of themselves, and then seem to make the sink. With
  /// BOS, which alone stands first, its own state.
  at::Tensor mark_of_position_0(int layer);
  Plan reading_plan(std::optional<int> until, int first) const;
  Outcome collect(const Run& run, const Plan& plan, int first,
                  std::int64_t sequences = all_sequences) const;

  const Progress& progress_;
  std::int64_t control_position_ = 0;
  std::vector<at::Tensor> stream_;
  std::vector<std::int64_t> watched_positions_;
  at::Tensor watched_;  // [B, P, vocab] log-probabilities of the clean run at these positions
};

}  // namespace plumb
