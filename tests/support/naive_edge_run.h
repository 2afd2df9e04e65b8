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

}  // namespace plumb::test
