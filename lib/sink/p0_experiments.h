// The interventions of the ladder, each with its read-outs.
#pragma once

#include "sink/p0_context.h"

namespace plumb {

/// Single components of position 0 up to the last onset, by zero, mean and resample. Each is run
/// once and read for every wave whose onset lies behind it: reports[w].knockouts.
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
