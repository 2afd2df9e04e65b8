// The experiments behind the catalogue's identifiers. Each writes into the bench's experiment.
#pragma once

#include "sink/p0_bench.h"

namespace plumb::p0 {

// p0_swap.cpp: the state of position 0 exchanged, clamped, projected, moved.
void content_swap(P0Bench& bench);       // B1
void norm_clamp(P0Bench& bench);         // B2
void direction_removal(P0Bench& bench);  // B3
void transplant(P0Bench& bench);         // B7

// p0_positions.cpp: position ids, masks, repeated tokens.
void position_ids(P0Bench& bench);        // B6
void mask_scan(P0Bench& bench);           // B10
void repetition(P0Bench& bench);          // C11
void first_token_repeat(P0Bench& bench);  // A8

// p0_variance.cpp: what block 0 could tell position 0 by.
void variance_match(P0Bench& bench);  // B8
void deself(P0Bench& bench);          // C8
void factorial(P0Bench& bench);       // C9
void donor_pattern(P0Bench& bench);   // C16

// p0_values.cpp: keys and values of position 0.
void value_ablation(P0Bench& bench);  // B9
void qk_reading(P0Bench& bench);      // C6
void kv_transplant(P0Bench& bench);   // C10

// p0_probe.cpp: what its state says.
void probe_identity(P0Bench& bench);   // B11
void cone_anisotropy(P0Bench& bench);  // B12
void cone(P0Bench& bench);             // A10
void state_pca(P0Bench& bench);        // A6

// p0_weights.cpp: what weights and experts say.
void trigger_form(P0Bench& bench);        // C5
void exact_head_removal(P0Bench& bench);  // A5
void moe(P0Bench& bench);                 // C14

// p0_profiles.cpp: measured tensors.
void attn0_norm(P0Bench& bench);          // A4
void channel_table(P0Bench& bench);       // A7
void norm_sensitivity(P0Bench& bench);    // A11
void mean_attention_map(P0Bench& bench);  // A12
void nulls(P0Bench& bench);               // C12

// p0_paths.cpp
void patch_paths(P0Bench& bench);  // B5

// p0_located.cpp: what the locator finds, by its identifiers.
void closed_system(P0Bench& bench);  // C2
void ledger(P0Bench& bench);         // C4
void knockout(P0Bench& bench);       // B4
void mask_to_self(P0Bench& bench);   // C7
void rivals(P0Bench& bench);         // C17

// p0_model.cpp: of the whole model, from its survey.
void sink_rate(const Model& model, const SinkSurvey& survey, P0Experiment& into);          // A1
void norm_profile(const Model& model, const SinkSurvey& survey, P0Experiment& into);       // A2
void direction_profile(const Model& model, const SinkSurvey& survey, P0Experiment& into);  // A3
void onset(const Model& model, const SinkSurvey& survey, P0Experiment& into);              // C1
void three_signals(const Model& model, const SinkSurvey& survey, P0Experiment& into);      // C3
void front_depth(const Model& model, const SinkSurvey& survey, P0Experiment& into);        // C13
void architecture(const Model& model, const SinkSurvey& survey, P0Experiment& into);       // C15

}  // namespace plumb::p0
