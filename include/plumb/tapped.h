// A researcher's own model, recorded and edited like plumb's.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "plumb/config.h"
#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb {

/// Hands plumb a tensor of the forward pass, in the shape that `site.h` states for the site; the
/// pass goes on with what comes back.
using SiteTap = std::function<at::Tensor(Site site, const at::Tensor& value)>;

/// Any decoder whose forward pass says `z = tap({Part::z, layer}, z);` at the sites that it offers.
class TappedModel {
 public:
  /// Logits [B, T, vocab] of the tokens. The same tokens must give the same logits; called from one
  /// thread at a time.
  using Forward = std::function<at::Tensor(const Tokens& tokens, const SiteTap& tap)>;

  /// Of the description, the sizes are used (layers, heads, kv_heads, d_head, d_model, d_mlp,
  /// vocab), and the switches that say which parts there are (`has_part`). Throws bad_argument if
  /// the sizes do not fit each other.
  TappedModel(const ModelConfig& description, Forward forward, std::string name);

  const ModelConfig& config() const { return shape_.config(); }
  const std::string& name() const { return shape_.name(); }
  const Model& shape() const { return shape_; }  ///< a model of these sizes, without weights
  at::Tensor forward(const Tokens& tokens, const SiteTap& tap) const {
    return forward_(tokens, tap);
  }

 private:
  Model shape_;
  Forward forward_;
};

/// One whole forward pass under the plan, as `run` of a `Model` makes it; `Part::logits` need not
/// be tapped. Throws unsupported if the plan restarts or stops early; bad_argument if the pass
/// never reaches a site that the plan names, saying which it reaches; bad_shape if a tensor handed
/// over has another shape than its site's.
Run run(const TappedModel& model, const Tokens& tokens, const Plan& plan = {});

}  // namespace plumb
