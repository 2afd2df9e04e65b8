// Position zero as what it is: a closed system. It sees one key, so its state is a pointwise
// function of its token, and any path inside it can be cut and recomputed for almost nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "sink/p0_context.h"

namespace plumb {

/// Tokens at position 0 and what is there of them, one row each.
struct FirstTokens {
  at::Tensor ids = {};                               ///< [N, 1]
  at::Tensor input = {};                             ///< [N, 1, d_model] entering block 0
  std::map<Component, ComponentValues> values = {};  ///< at least `own` and `mean`
};

/// Evaluates the residual graph of position 0 over the causal sequences, or over other tokens put
/// first, which must outlive it.
class P0System {
 public:
  P0System(P0Context& context, int depth);
  P0System(P0Context& context, int depth, const FirstTokens& tokens);

  /// What a reader gets from a sender: the sender's present value, or something else.
  struct Cuts {
    /// Components whose output is replaced for every reader and for the read-out.
    std::vector<Component> replaced = {};
    /// Whether the edge from a sender to a reader carries a donor instead of the present value. The
    /// read-out is the reader {depth, false}.
    std::function<bool(Component sender, Component reader)> cut = {};
    Ablation donor = Ablation::mean;
    /// What is added to what a reader gets from a sender, [B, 1, d_model].
    std::map<std::pair<Component, Component>, at::Tensor> added = {};
    /// Writes of an earlier evaluation whose edits before the component `from` were the same.
    const std::map<Component, at::Tensor>* known = nullptr;
    Component from = {};
    /// Whether somebody reads a component; the writes of the others are not computed.
    std::function<bool(Component)> read = {};
  };

  using Writes = std::map<Component, at::Tensor>;

  /// What each component writes, [B, 1, d_model]. Of several evaluations together the bits are
  /// those of each by itself, and it costs a fraction.
  Writes writes(const Cuts& cuts);
  std::vector<Writes> writes(const std::vector<Cuts>& all);

  /// State of position 0 entering block `depth`, [B, d_model]; the second from what was written.
  at::Tensor state(const Cuts& cuts);
  at::Tensor state(const Writes& written, const Cuts& cuts) const;
  std::vector<at::Tensor> states(const std::vector<Cuts>& all);

  /// What stands in for a component's output, [B, 1, d_model].
  at::Tensor donor(Component component, Ablation ablation) const;

  /// Mean over sequences of its projection on a unit direction, and the projections [B].
  at::Tensor projection(const Cuts& cuts, const at::Tensor& direction);

 private:
  std::vector<at::Tensor> apply(Component component, const std::vector<at::Tensor>& inputs);
  at::Tensor apply_rows(Component component, const at::Tensor& input);
  at::Tensor sum_for(Component reader, const Writes& present, const Cuts& cuts) const;

  P0Context& context_;
  const std::map<Component, ComponentValues>& values_;
  at::Tensor input_;
  int depth_;
  std::vector<Component> components_;
};

}  // namespace plumb
