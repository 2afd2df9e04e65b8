// A circuit run the plain way: every receiver's input by itself, through whole blocks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plumb/edges.h"
#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb::test {

/// What the senders write in one run: [senders] of [B, T, d_model], and the streams that receivers
/// read there, [receivers].
struct NaiveWrites {
  std::vector<at::Tensor> writes = {};
  std::vector<at::Tensor> streams = {};
};
NaiveWrites naive_writes(const Model& model, const EdgeSpace& space, const Tokens& tokens);

/// The logits [B, T, vocab] of the run in which each receiver reads `outside`'s stream and, of the
/// edges into it that are in, what the sender writes in this run less what it writes outside.
at::Tensor naive_edge_logits(const Model& model, const EdgeSpace& space, const Tokens& tokens,
                             const NaiveWrites& outside, const std::vector<std::uint8_t>& mask);

/// The same run's pattern of a block, or its stream (resid_pre, resid_mid, resid_post) as a
/// read-out sees it that reads the edges into the logits from what was written by then.
/// `site_outside` is the site's value in the run outside.
at::Tensor naive_edge_site(const Model& model, const EdgeSpace& space, const Tokens& tokens,
                           const NaiveWrites& outside, const at::Tensor& site_outside,
                           const std::vector<std::uint8_t>& mask, Site site);

}  // namespace plumb::test
