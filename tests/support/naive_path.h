// Path patching the plain way: the passes of arXiv:2211.00593, each a whole run.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plumb/patch.h"

namespace plumb::test {

/// The metric [B] when the senders' patched values go to the receivers alone: for every hop, a run
/// in which the senders hold their patched values and all other heads (and MLPs, where these are
/// frozen) their own, and whose receivers' inputs are kept; at last a run in which those are put.
at::Tensor naive_paths(const Model& model, const Pairs& pairs,
                       const std::vector<SlicedSite>& senders, const Paths& paths,
                       const PatchOptions& options);

}  // namespace plumb::test
