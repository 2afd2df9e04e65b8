// A metric read off the streams of patched runs.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

class MetricReader {
 public:
  /// `clean` [B, d_model]: the stream of the plain clean run at the read positions. `first`: the
  /// number of the first of these pairs, as a custom metric counts them.
  MetricReader(const Metric& metric, const Pairs& pairs, const Follower& follower,
               const at::Tensor& clean, std::int64_t first);

  /// Streams before the final norm at the read positions, [B, n, d_model], to float64 [B, n].
  at::Tensor operator()(const at::Tensor& stream) const;

 private:
  at::Tensor of_rows(const at::Tensor& stream, const at::Tensor& pair) const;

  const Metric& metric_;
  const Pairs& pairs_;
  const Follower& follower_;
  std::int64_t first_;
  at::Tensor clean_log_probs_;  ///< [B, vocab]; of metrics that compare distributions
};

}  // namespace plumb
