// What the over-mixing diagnostics keep of the tensors of a run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "plumb/model.h"
#include "plumb/plan.h"

namespace plumb {

/// Of v [b, T, K, d_head]: [b, H, 2], |W_O v_0| over its mean over valid positions, and |v_0| over
/// its. The norm on what attention writes, where a model has one, is left out.
Reduce value_drain(const Model& model, int layer);

/// Of z [b, T, H, d_head]: [b, H], the mean norm over valid positions over its mean over heads.
Reduce honor();

/// The factors of attention logits. Queries come before keys in a pass; they are held until then.
class LogitFactors {
 public:
  explicit LogitFactors(const ModelConfig& config);
  /// Of q: nothing, [b, 0].
  Reduce queries(int layer) const;
  /// Of k: [b, H, 7].
  Reduce keys(int layer) const;

 private:
  struct Held;
  std::shared_ptr<Held> held_;
  double factor_;
};

/// [d_model, d_model] float64, columns by falling singular value: right singular vectors of the
/// unembedding [vocab, d_model].
at::Tensor unembedding_directions(const Model& model);

// Of one sequence's stream [T, d_model], all of it valid.
struct Collapse {
  double distance = 0;
  double relative = 0;
};
/// |V - mean row| and the same over |V|.
Collapse rank_collapse(const at::Tensor& stream);
/// |v_n - v_{n-1}| of the last two rows, and the same over the mean of their norms.
Collapse last_rows(const at::Tensor& stream);
/// [2, bands]: shares of the squared norm, of row 0 and mean over the others.
at::Tensor band_energy(const at::Tensor& stream, const at::Tensor& directions, std::int64_t bands);

}  // namespace plumb
