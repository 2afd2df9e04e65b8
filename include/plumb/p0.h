// The main job: locate the circuit that makes position zero a sink, and show causally that it does.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/circuit.h"
#include "plumb/sink.h"

namespace plumb {

enum class Verdict { positional, token, learned_position, secondary, none, sink_logits };
enum class Holds { yes, no, untested };
const char* to_string(Verdict verdict) noexcept;
const char* to_string(Holds holds) noexcept;

/// What replaces a component's output at position 0.
enum class Ablation {
  zero,
  mean,       ///< the sequence's own mean over t > 0
  resample,   ///< the same component at one random t > 0 of the same sequence
  displaced,  ///< the same token's value in a run where a prefix stands before it
};
const char* to_string(Ablation ablation) noexcept;

struct P0Options {
  SinkOptions sink = {};
  std::int64_t causal_sequences = 24;    ///< sequences that interventions run on
  std::int64_t causal_length = 96;       ///< positions of them
  std::int64_t self_mask_position = 40;  ///< position made to attend to itself alone
  std::int64_t prefix = 16;              ///< tokens put before the sequence for `displaced`
  std::uint64_t seed = 0;
  std::vector<std::int64_t> donors =
      {};  ///< position > 0 that `resample` copies from, for each causal sequence; empty = drawn
  double necessary = 0.8;  ///< share of the excess over the null that a knock-out must remove
  double control = 0.1;    ///< share that the same edit at another position may remove
  double control_ratio =
      2.0;  ///< an effect must be so many times that of a random change of its size
  double sufficient = 1.0 / 3.0;  ///< share of position 0's sink that a made sink must reach
  double located = 0.9;           ///< share of the projection that the named writers must cover
  double vocabulary = 0.95;       ///< share of tokens that must spike
  double separable = 0.99;     ///< area under the curve from which position 0 counts as identified
  double recovered = 0.8;      ///< share of the projection that the graph's paths alone must carry
  double link = 0.5;           ///< share that must be lost when the most important link is cut
  double signal = 0.5;         ///< share that the signal's edit must remove
  double signal_margin = 0.3;  ///< ... and by how much more than its rivals
  double learned = 0.8;        ///< share of the sink that must follow the position row
  double shift = 1e-3;  ///< largest change of a head's sink when all position ids move: rounding of
                        ///< float32 rotary tables, with room
};
void check(const P0Options& options, const Model& model);

/// Names of the ladder's thresholds, and setting one by its name: "necessary", 0.9. Throws
/// bad_argument, naming them.
const std::vector<std::string>& p0_thresholds();
void set_threshold(P0Options& options, const std::string& name, double value);

/// A component's part of the state of position 0 along the wave's sink direction.
struct LedgerRow {
  std::string name = {};  ///< "input", "a0", "m2"; "a0.h3"; "m2.n90"
  double p0 = 0;          ///< at position 0, mean over sequences
  double others = 0;      ///< mean over t > 0
};
struct Ledger {
  double total = 0;                        ///< projection of the state on the direction
  double closing_error = 0;                ///< |sum of components - total| / |total|
  std::vector<LedgerRow> components = {};  ///< in the order of the forward pass
  std::vector<LedgerRow> heads =
      {};  ///< of components with at least 2 % of the total, largest first
  std::vector<LedgerRow> neurons = {};  ///< leading ones of the writing and erasing MLPs
  std::vector<LedgerRow> erasers =
      {};  ///< components of the wave's own and next layers that remove it
};

/// One intervention and everything read after it.
struct Effect {
  std::string name = {};          ///< "m1+m2"
  std::string kind = {};          ///< "zero", "mean", ..., "self-mask {0,1,2}"
  std::string where = {};         ///< "P0", "t" (another position), "k=40"
  std::vector<double> sink = {};  ///< [layers run] mean over heads and sequences; NaN = not run
  std::vector<double> other_sink = {};  ///< [layers run] largest column but position 0
  Estimate value = {};                  ///< mean sink over the wave's layers that were run
  double removed = 0;                   ///< share of the excess over the null that is gone
  Estimate norm = {};     ///< norm at the wave's onset, of the position the effect is about
  double other_norm = 0;  ///< largest norm among the other positions, mean over sequences
  std::int64_t other_position = 0;  ///< where that is, most often
  double rival_share = 0;           ///< share of sequences in which another position spikes
  std::string outcome = {};         ///< "kept", "weakened", "removed", "moved to t = 1"
  std::optional<Estimate> loss_change = {};  ///< nats per token; absent where the run stopped early
  std::int64_t sequences = 0;  ///< that it was read on; of fewer than all, `value` and `norm` are
                               ///< the clean run's of all plus the difference in these
  at::Tensor each = {};        ///< [layers run, sequences] float64: the sink; not in files
};

/// An effect beside that of a control which shares everything with it but what is claimed: a random
/// change of the same size instead of the edit, graphs of as many random paths instead of the
/// graph.
struct Contrast {
  std::string rung = {};     ///< that it serves: "L4"
  std::string name = {};     ///< "m1+m2 by mean"
  std::string control = {};  ///< "random change of its size"
  double effect = 0;         ///< mean share, over the layers that both were read in
  double by_control = 0;
  Estimate difference = {};  ///< effect less control, paired by sequence
  bool exceeds =
      false;  ///< the interval is above 0, and effect >= `control_ratio` times the control
};

struct SelfMask {
  std::vector<int> layers = {};
  Estimate sink = {};  ///< at the masked position, mean over the wave's layers that were run
  Estimate norm = {};  ///< there, at the wave's onset
  double spiking = 0;  ///< share of sequences in which it spikes
  bool sufficient = false;
};

struct Rung {
  std::string level = {};  ///< "L1" ... "L9"
  std::string name = {};   ///< "present"
  std::string claim = {};  ///< one sentence: what the value is
  double value = 0;
  double null = 0;
  double low = 0;
  double high = 0;
  Holds holds = Holds::untested;
};

/// Routes of which any one suffices: the read-out goes only without all of them.
struct Alternatives {
  std::vector<std::vector<std::string>> routes = {};  ///< components of each; of a backup just one
  std::string shown_by = {};  ///< "pair": knocked out by twos; "set": blocks and a run of attention
};

/// A path that the search kept and the graph leaves out, since other tokens do not show its effect.
struct DoubtfulPath {
  std::string name = {};    ///< "m1->m2"
  Estimate score = {};      ///< share lost without it, as of a drawn edge
  Estimate elsewhere = {};  ///< the same for other tokens put first; the interval is corrected
};

/// A drawn graph against the model it stands for, and against chance. Everything is read from
/// position 0's projection on the sink direction, as (m - none) / (all - none): 1 with every path
/// inside position 0, 0 when every path carries its sender's mean over t > 0.
struct GraphCheck {
  std::int64_t edges = 0;       ///< paths of the graph inside position 0
  std::int64_t candidates = 0;  ///< paths there are
  Estimate faithfulness = {};   ///< with the graph's paths alone
  Estimate completeness = {};   ///< with all paths but the graph's; 0: nothing is left to them
  double least_needed = 0;      ///< smallest change of faithfulness when one edge is left out
  std::string least_edge = {};  ///< "m1->m2"
  bool minimal = false;         ///< no single edge can be left out within the tolerance
  std::vector<DoubtfulPath> doubtful = {};  ///< in the order in which they were left out
  /// Graphs of as many paths drawn at random, and of as many others of the same tenths of all paths
  /// by how much of its input each gives its reader.
  std::vector<double> random = {};
  std::vector<double> random_completeness = {};
  std::vector<double> matched = {};
  std::vector<double> matched_completeness = {};
};

/// What a step of the job cost.
struct P0Cost {
  std::string rung = {};         ///< that it serves: "L4"; empty: none by itself
  std::string step = {};         ///< "knock-outs"
  int wave = 0;                  ///< from 1; 0: all
  std::int64_t evaluations = 0;  ///< token-layer evaluations
  double seconds = 0;
  double cpu_seconds = 0;  ///< of all threads of the process
};

/// Everything found about one wave.
struct WaveReport {
  Wave wave = {};
  Verdict verdict = Verdict::none;
  std::vector<int> blocks = {};            ///< blocks whose components write it
  std::vector<std::string> writers = {};   ///< "m1", "m2": cover `located` of the projection
  std::vector<std::string> upstream = {};  ///< "a0", "m0": needed, but write little themselves
  std::vector<std::string> erasers = {};
  std::vector<std::vector<std::string>> backups =
      {};                     ///< sets of which each member alone is dispensable
  at::Tensor direction = {};  ///< [d_model] unit
  double spike_norm = 0;      ///< norm above which a position spikes at the onset
  Ledger ledger = {};
  Effect clean = {};
  std::vector<Effect> knockouts = {};  ///< singles, all kinds
  std::vector<Effect> sets = {};       ///< pairs and larger sets
  std::vector<Effect> controls = {};   ///< of the set that L4 speaks of first
  std::vector<Contrast> contrasts = {};
  std::vector<Effect> state = {};   ///< norm clamp, direction removal, swaps of the whole state
  std::vector<Effect> use = {};     ///< values zeroed, column hidden
  std::vector<Effect> signal = {};  ///< what block 0 tells position 0
  std::vector<SelfMask> self_masks = {};
  std::vector<int> smallest_mask = {};  ///< smallest sufficient layer set found; empty = none
  std::vector<Effect> restored = {};    ///< displaced run with components of position 0 pasted in
  double vocabulary_share = 0;  ///< tokens that spike at position 0; without a spike: draw a sink
  std::array<double, 3> vocabulary_norm = {};            ///< 1st, 50th, 99th percentile
  std::vector<std::int64_t> vocabulary_exceptions = {};  ///< weakest tokens, at most 20
  std::vector<std::string> dependence = {};  ///< sentences: how this wave depends on earlier ones
  std::vector<Effect> dependence_effects = {};
  std::vector<Rung> ladder = {};
  std::vector<Alternatives> alternatives = {};  ///< drawn as a junction of kind "or"
  GraphCheck graph = {};
  /// The graph's paths read on the sink in the full model, in the order of the forward pass: one
  /// cut at a time, then all but the graph's.
  std::vector<Effect> paths = {};
  Circuit circuit = {};  ///< pruned to the fewest paths found that keep 95 % of the projection
};

struct P0Report {
  P0Options options = {};
  bool complete = false;  ///< false: the job ended early, and holds what it had found by then
  Verdict verdict = Verdict::none;  ///< of the wave with the largest mean sink
  std::vector<SinkSurvey> surveys =
      {};  ///< the inputs without BOS; with native BOS where it differs; random tokens
  std::vector<std::string> survey_names = {};
  std::vector<WaveReport> waves = {};
  double position_shift_change =
      0;  ///< largest change of any head's sink when all position ids move by 100
  std::vector<std::string> notes =
      {};                ///< what a reader must know: cosine between directions, missing conditions
  Circuit circuit = {};  ///< of all waves together
  std::int64_t evaluations = 0;  ///< token-layer evaluations in all
  double seconds = 0;
  std::vector<P0Cost> costs = {};  ///< step by step, in the order they were run
};

/// What the job runs on. The same content tokens with and without BOS.
struct P0Inputs {
  Inputs plain = {};                  ///< without BOS
  std::optional<Inputs> native = {};  ///< with the tokenizer's own BOS, where it adds one
  std::optional<Inputs> random = {};  ///< uniformly random ids, without BOS
};

/// Surveys the sink, then takes each wave through the ladder (reference: arXiv:2603.06591 for the
/// circuit; the levels are plumb's own, see docs/guide/p0.md).
P0Report locate_p0(const Model& model, const P0Inputs& inputs, const P0Options& options = {},
                   const Progress& progress = {});

/// The same, into a report of the caller's. If it throws (the progress callback may, to stop it),
/// the report holds what was found until then, with `complete` false.
void locate_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
               const Progress& progress, P0Report& report);

}  // namespace plumb
