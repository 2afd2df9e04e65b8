// Two tiny models whose every weight is a hash of its name and place, so that any language can make
// the very same ones.
#pragma once

#include <string>

#include "plumb/model.h"
#include "plumb/pairs.h"

namespace plumb::test {

/// "gpt2" (3 layers, 4 heads, d_model 64) or "llama" (the same with 2 key heads, gated MLP,
/// untied). Float64; every weight is exact in float32. Weight i of a tensor of a Hugging Face name:
/// 20 bits u in [-0.5, 0.5) of splitmix64(FNV-1a 64 of the name + (i + 1) 0x9E3779B97F4A7C15); 0.5
/// u, of biases 0.125 u, of norm gains 1 + 0.25 u.
Model hash_model(const std::string& kind);

/// Four pairs of six tokens for it, which differ at position 2.
Pairs hash_pairs();

}  // namespace plumb::test
