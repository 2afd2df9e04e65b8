// What a reader of a report wants to see of the inputs themselves: what the tokens say, and where
// the heads look in a few sequences.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/model.h"
#include "plumb/sink.h"
#include "plumb/tokenizer.h"

namespace plumb {

struct IllustrationOptions {
  std::int64_t sequences = 3;   ///< the first ones of the inputs
  std::int64_t positions = 40;  ///< the first ones of each
  std::int64_t maps = 900;      ///< (sequence, head) pairs kept at most; what a report can carry
};

/// S sequences of T positions, M heads.
struct Illustration {
  std::vector<std::int64_t> ids = {};   ///< token ids that are shown somewhere, ascending
  std::vector<std::string> texts = {};  ///< of each, as `Tokenizer::show` gives it
  at::Tensor heads = {};                ///< [M, 2] int64: layer and head of each map
  at::Tensor pattern = {};  ///< [S, M, T, T] float32 attention of each query to each key; 0 in the
                            ///< padding of shorter sequences
};

/// Runs the first sequences once more, cut to the first positions. Where not all heads fit into
/// `maps` there are fewer sequences, and then of each layer only the heads whose mean sink (of the
/// survey) is largest and smallest. Texts are those of the tokens in these sequences, of the
/// survey's secondary sinks and of `more_ids`; none without a tokenizer.
Illustration illustrate(const Model& model, const Inputs& inputs, const SinkSurvey& survey,
                        const Tokenizer* tokenizer, const std::vector<std::int64_t>& more_ids = {},
                        const IllustrationOptions& options = {});

}  // namespace plumb
