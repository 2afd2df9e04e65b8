// Path patching: what a sender's value does through given receivers alone (arXiv:2211.00593,
// arXiv:2304.05969).
#pragma once

#include <vector>

#include "plumb/model.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/progress.h"

namespace plumb {

/// For every sender of the sweeps: its patched value is sent along the stream, all other heads
/// keeping their values, to the nodes of the first hop; what those then write is sent on, and so to
/// the receivers, whose inputs are patched in one last run in which everything behind them follows.
/// With receivers `logits` what arrives is read at once: the direct effect.
///
/// Senders are sites that write to the stream: z, head_out, attn_out, mlp_out, and of blocks
/// without a norm on the MLP's write mlp_post, expert_out and shared_out; embed and pos_embed. In a
/// set, at most one kind for each sublayer. The options' replacement says what a sender's value
/// becomes.
///
/// Since everything between is frozen, what was sent is added to the receivers' streams; nothing
/// but the last run, and MLPs that are recomputed, is run.
///
/// Tiles, threads and ranks are as in `patch`.
/// Throws bad_argument if senders, nodes and receivers do not fit the model or each other, and
/// unsupported with fixed edits (`with`).
PatchReport path_patch(const Model& model, const Pairs& pairs,
                       const std::vector<SweepSpec>& senders, const Paths& paths,
                       const PatchOptions& options = {}, const Progress& progress = {},
                       const Tiles& tiles = {});

}  // namespace plumb
