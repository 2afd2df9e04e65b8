// What stands for the derivative of what is not linear, when a pass is pulled back.
#pragma once

#include <ATen/ATen.h>

#include "plumb/config.h"

namespace plumb {

/// The rules of relevance patching (RelP, arXiv:2508.21258, its table of propagation rules), for
/// passes that are differentiated; the values of a pass do not depend on them. None: derivatives.
///
/// LN-rule: norms divide by a scale that is held constant. Identity-rule: act(x) is x times act(x)
/// / x, the latter held. Half-rule: of a product each factor gets half of what its derivative says.
/// Gates, routers and shares between 0 and 1 that multiply a write are held.
struct BackRules {
  bool relevance = false;
  bool patterns = false;  ///< AH-rule: attention probabilities are held too

  at::Tensor held(const at::Tensor& factor) const { return relevance ? factor.detach() : factor; }

  /// a b
  at::Tensor product(const at::Tensor& a, const at::Tensor& b) const {
    return relevance ? 0.5 * (a * b.detach() + a.detach() * b) : a * b;
  }

  /// `y`, a function of `x` alone that is 0 where x is, as x times their ratio.
  at::Tensor ratio(const at::Tensor& x, const at::Tensor& y) const {
    if (!relevance) return y;
    return x * at::where(x == 0, at::ones_like(x), y / x).detach();
  }
};

/// The activation under the rules: act(x) / x has a closed form for each, which is finite at 0.
at::Tensor activate(Activation activation, const at::Tensor& x, const BackRules& rules);

}  // namespace plumb
