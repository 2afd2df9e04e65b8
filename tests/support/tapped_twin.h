// The plain decoder of the tests as somebody else's forward pass.
#pragma once

#include <functional>

#include "plumb/tapped.h"

namespace plumb::test {

struct TwinOptions {
  std::function<bool(Site site)> hidden = {};  ///< sites that it does not tap
  bool heads = false;                          ///< taps head_out
};

/// With the weights of a model of plumb's.
TappedModel tapped_twin(const Model& model, const TwinOptions& options = {});

}  // namespace plumb::test
