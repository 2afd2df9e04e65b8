// The MLP of one block, from the stream it reads to what it adds to the stream.
#pragma once

#include "model/pass.h"

namespace plumb {

at::Tensor activate(Activation activation, const at::Tensor& x);

/// [B, T, d_model] to [B, T, d_model], any norm on the write included.
at::Tensor mlp(Pass& pass, int layer, const at::Tensor& stream);

}  // namespace plumb
