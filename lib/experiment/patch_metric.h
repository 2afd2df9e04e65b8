// A metric read off patched runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "plumb/patch.h"

namespace plumb {

/// One of the two runs of an experiment.
enum class Which { clean, corrupt };
const Tokens& tokens_of(const Pairs& pairs, Which which);
/// Valid positions of each of its prompts, [B] int64.
at::Tensor lengths_of(const Pairs& pairs, Which which);

/// Where a metric of the logits is read in one of the runs: P positions of each prompt.
struct ReadPlan {
  at::Tensor positions = {};  ///< [B, P] int64
  at::Tensor weights = {};    ///< [B, P] float64; 0 where a prompt has fewer
  at::Tensor targets = {};    ///< [B, P] int64: of the loss, the token that follows
};

/// Throws bad_argument where the pairs lack what the metric asks for: answers, positions.
ReadPlan read_plan(const Metric& metric, const Pairs& pairs, Which which);

/// Throws bad_argument if the metric does not fit the model or the pairs.
void check_metric(const Metric& metric, const Pairs& pairs, const ModelConfig& config);

/// Rows of logits held at once: a vocabulary is wide.
inline constexpr std::int64_t metric_rows_at_once = 64;

/// Logits of what is kept of a run at the positions that are read: rows [R, width].
struct Readout {
  std::function<at::Tensor(const at::Tensor& rows)> logits = {};  ///< [R, vocab]
  /// Of the given tokens alone: `ids` [R, m] gives [R, m].
  std::function<at::Tensor(const at::Tensor& rows, const at::Tensor& ids)> logits_of = {};
};

class Follower;
/// Of the stream before the final norm. The follower must outlive it.
Readout readout_of(const Follower& follower);

/// Metrics of the logits.
class LogitMetric {
 public:
  /// `first`: the number of the first of these pairs, as a custom metric counts them.
  LogitMetric(const Metric& metric, const Pairs& pairs, Readout readout, std::int64_t first);

  /// What metrics that compare distributions compare with: what is kept of the unpatched clean run
  /// at its read positions, [B, 1, 1, width].
  void compare_with(const at::Tensor& clean);

  /// What is kept at the read positions, [B, n, P, width], to float64 [B, n].
  at::Tensor operator()(const at::Tensor& kept, const ReadPlan& reads) const;

 private:
  at::Tensor of_rows(const at::Tensor& rows, const at::Tensor& pair,
                     const at::Tensor& target) const;
  at::Tensor logit_diff(const at::Tensor& rows, const at::Tensor& pair) const;

  const Metric& metric_;
  Readout readout_;
  std::int64_t first_;
  at::Tensor rights_ = {};  ///< [B, n] int64, -1 where a pair has fewer
  at::Tensor wrongs_ = {};
  at::Tensor clean_log_probs_ = {};  ///< [B, vocab]
};

/// Metrics of a site: its tensor [N, ...] and the valid positions [N] of each sequence to float64
/// [N].
at::Tensor site_metric(const Metric& metric, const at::Tensor& value, const at::Tensor& lengths);

}  // namespace plumb
