// Edge attribution of a researcher's own model.
#pragma once

#include "plumb/attribute.h"
#include "plumb/tapped.h"

namespace plumb {

/// `edge_report` of a forward pass of your own, with the same scores, by eap, eap_ig,
/// eap_ig_activations and clean_corrupted: gradients of whole passes by LibTorch. Tiles of pairs
/// follow one another. In memory lie the graph of one pass over a tile and, of the tile, what every
/// sender writes differently, [senders, pairs, positions, d_model].
///
/// What has to be tapped, in each block that the metric depends on:
///   - the input: `embed`, or resid_pre of block 0 where no embedding of positions is added
///   between;
///   - resid_pre; q, k and v, and of gated attention z_gate;
///   - what heads write: head_out, or z and attn_out where no norm follows attention and a head's
///     write is linear in its z;
///   - mlp_out, and what the MLP reads: mlp_in, or else resid_mid, or of parallel blocks resid_pre;
///   - resid_final, or resid_post of the last block; or the site that the metric reads.
/// A block that taps nothing of its attention, or no mlp_out, is taken to have none. Two identities
/// are checked, with a map between positions only the second: what senders write differently sums
/// to how the stream differs, and the gradients of all that reads the stream sum to its own.
///
/// Of a norm over the queries or keys of all heads at once, the edge of a head is what pasting this
/// head's queries would change to first order, as exact effects are.
///
/// Throws what `edge_report` and `run` throw; bad_argument where a site is missing, naming it and
/// those that are reached, where one of the two identities does not hold, and where no gradient
/// arrives; unsupported for direct and exact, for rules other than `gradient` (a pass of your own
/// follows them if it detaches what they hold), and where the pass cannot be differentiated.
EdgeReport edge_report(const TappedModel& model, const Pairs& pairs, const Metric& metric = {},
                       const EdgeOptions& options = {}, const Progress& progress = {});

/// Its scores alone.
EdgeScores attribute_edges(const TappedModel& model, const Pairs& pairs, const Metric& metric = {},
                           const EdgeOptions& options = {}, const Progress& progress = {});

}  // namespace plumb
