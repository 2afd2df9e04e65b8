// How often bytes occur in the text that planted models are made for.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace plumb::lab {

/// [count] float64 log-frequencies of byte ids: falling steadily from space, e, t, ... to the rarer
/// signs of English, equal and small for all other ids.
at::Tensor letter_log_frequencies(std::int64_t count);

}  // namespace plumb::lab
