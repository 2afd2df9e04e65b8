// The interventions of the ladder, each with its read-outs.
#pragma once

#include "sink/p0_context.h"

namespace plumb {

/// Largest change of a head's sink when all position ids move by 100, on a few sequences.
double shifted_sink_change(P0Context& context);

/// Learned positions: the share of a wave's excess that leaves column 0 when position 0 takes the
/// row of another position, which takes row 0.
double sink_following_the_row(P0Context& context, std::size_t wave);

/// Share of the sink's excess, or of the norm, from which a knock-out shows that a component
/// matters.
constexpr double knockout_matters = 0.1;

/// Single components of position 0 up to the last onset, by zero, mean and resample. Each is run
/// once and read for every wave whose onset lies behind it: reports[w].knockouts. One that lies
/// before late waves alone is run on a quarter of the sequences, and on all of them unless these
/// show that it does not matter.
void knock_out_components(P0Context& context, std::vector<WaveReport>& reports);

/// Pairs of the components that matter, all components of the blocks before the onset, and the
/// controls of the strongest set: reports[w].sets, .controls, .backups, .upstream.
void knock_out_sets(P0Context& context, std::size_t wave, WaveReport& report);

/// How this wave depends on the ones before it: their blocks and the attention between knocked out,
/// by mean and by resample. Fills .dependence and .dependence_effects.
void test_dependence(P0Context& context, std::size_t wave, WaveReport& report);

/// Self-mask of one position over layer sets; searches the smallest sufficient one.
void test_self_mask(P0Context& context, std::size_t wave, WaveReport& report);

/// Position 0's components pasted into the same token behind a prefix: .restored.
void test_restoration(P0Context& context, std::size_t wave, WaveReport& report);

/// Norm clamp, direction removal, and swaps of the whole state at the onset: .state.
void edit_state(P0Context& context, std::size_t wave, WaveReport& report);

/// Values zeroed and column 0 hidden in the wave's layers: .use.
void test_use(P0Context& context, std::size_t wave, WaveReport& report);

/// What distinguishes position 0 for the first blocks: selection or mixing (.signal). `blocks` is
/// the layer set in which attention matters.
void test_signal(P0Context& context, std::size_t wave, const std::vector<int>& blocks,
                 WaveReport& report);

}  // namespace plumb
