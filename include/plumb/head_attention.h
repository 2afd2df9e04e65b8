// How each head attends, beside how much it attends to position 0.
#pragma once

#include <ATen/core/Tensor.h>

#include "plumb/sink.h"

namespace plumb {

/// Over the queries that a sink survey chooses for position 0. B sequences, L layers, H heads.
struct HeadAttention {
  at::Tensor entropy = {};      ///< [B, L, H] of a query's attention in nats, mean over queries
  at::Tensor log_sum_exp = {};  ///< [B, L, H] of the scores of the keys a query sees, likewise
  at::Tensor top_key = {};      ///< [B, L, H] int64: the key that most queries attend to most, the
                                ///< first of equals
  at::Tensor top_share = {};    ///< [B, L, H] the share of them that do
  at::Tensor top_at_zero = {};  ///< [B, L, H] the share of them that attend to position 0 most
};

/// A sink survey that fills `heads` from the same run.
SinkSurvey survey_sink(const Model& model, const Inputs& inputs, const SinkOptions& options,
                       HeadAttention& heads, const Progress& progress = {});

}  // namespace plumb
