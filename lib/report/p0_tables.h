// Tables of the P0 report. Each is empty if it has no rows.
#pragma once

#include <string>
#include <vector>

#include "plumb/p0.h"

namespace plumb::report {

/// Rows of at least 1 % of the total; the others are summed in a last row.
std::string ledger_table(const std::vector<LedgerRow>& rows, double total);
/// A row for each component, a pair of columns for each kind of ablation.
std::string knockout_table(const std::vector<Effect>& effects);
/// Whether an edit's kind is part of what it is called.
enum class Naming { with_kind, by_name };
/// Columns that say the same or nothing in every row are left out.
std::string effect_table(const std::vector<Effect>& effects, Naming naming = Naming::with_kind);
/// The graph against the model and against random graphs; what backs up what.
std::vector<std::string> graph_sentences(const WaveReport& wave);
/// The neurons that carry an MLP of the circuit, where they are few.
std::vector<std::string> neuron_sentences(const Circuit& circuit);
/// All of these of a wave, as lines.
std::string graph_words(const WaveReport& wave);
/// Effects beside those of their controls.
std::string contrast_table(const std::vector<Contrast>& contrasts);
std::string self_mask_table(const std::vector<SelfMask>& masks);
std::string ladder_table(const std::vector<Rung>& ladder);
/// What each step cost, by rung.
std::string cost_table(const std::vector<P0Cost>& costs);

}  // namespace plumb::report
