// What single edges do to the metric of a clean run, run by run, over one tile of pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "experiment/attribute_metric.h"
#include "experiment/attribute_tile.h"
#include "experiment/edge_plain.h"
#include "model/follow.h"
#include "plumb/edges.h"

namespace plumb {

/// Edges of one kind of receivers in one layer, by sender.
struct EffectJob {
  EdgeReceiver::Kind kind = EdgeReceiver::Kind::logits;
  int layer = 0;
  std::vector<std::int64_t> senders = {};
  struct Item {
    std::size_t sender = 0;  ///< index into `senders`
    int head = -1;
    std::int64_t place = 0;  ///< of the edge, among those asked for
  };
  std::vector<Item> items = {};
};

/// Positions run at once: more cost memory, fewer pack the weights too often.
inline constexpr std::int64_t rows_at_once = 1024;

/// Cuts the edges, rising, into jobs, a sender of which is run at `rows` positions: a function of
/// these alone. A job's items stand by their receivers' heads.
std::vector<EffectJob> effect_jobs(const EdgeSpace& space, const std::vector<std::int64_t>& edges,
                                   const std::function<std::int64_t(EdgeReceiver::Kind)>& rows);

/// Safe to use from many threads once it is made.
class EdgeEffects {
 public:
  enum class Behind {
    frozen,      ///< all other components keep their values: what the receiver writes goes straight
                 ///< to the final stream
    recomputed,  ///< everything behind the receiver follows
  };
  EdgeEffects(const Model& model, const Pairs& pairs, std::int64_t first, const Metric& metric,
              Behind behind);
  EdgeEffects(const EdgeEffects&) = delete;
  EdgeEffects& operator=(const EdgeEffects&) = delete;

  const at::Tensor& clean() const { return plain_.clean; }  ///< [b] float64
  const at::Tensor& corrupt() const { return plain_.corrupt; }
  std::int64_t evaluations() const { return plain_.evaluations; }

  /// The metric of the clean run less that with the edge's corrupt value, float64 [items, b]. Adds
  /// what was run to `evaluations`.
  at::Tensor effects(const EffectJob& job, std::int64_t& evaluations) const;

 private:
  /// Those that a job looks at: all, those from the first on at which anything differs, or those
  /// that the metric reads.
  enum class Where { all, changed, read };
  const ModelConfig& config() const { return model_.config(); }
  bool reads_here(int layer) const { return site_ && site_->site.layer == layer; }
  at::Tensor looked_at(const at::Tensor& rows, Where where) const;
  at::Tensor changes(const EffectJob& job, Where where) const;
  Cache attention(const EffectJob& job, const at::Tensor& change, std::vector<Record> records,
                  std::int64_t& evaluations) const;
  at::Tensor changed_z(const EffectJob& job, std::int64_t& evaluations) const;
  at::Tensor head_writes(const EffectJob& job, const at::Tensor& z, const at::Tensor& clean,
                         std::size_t first, std::size_t count) const;
  at::Tensor mlp_writes(int layer, const at::Tensor& change, Where where,
                        std::int64_t& evaluations) const;
  at::Tensor metric_of(int layer, const at::Tensor& stream, std::int64_t& evaluations) const;
  at::Tensor metric_at_reads(const at::Tensor& change) const;
  at::Tensor metric_of_edits(int layer, std::vector<Intervention> edits, std::int64_t n,
                             std::int64_t& evaluations) const;
  at::Tensor by_heads(const EffectJob& job, std::int64_t& evaluations) const;
  at::Tensor by_heads_in_read_block(const EffectJob& job, std::int64_t& evaluations) const;
  at::Tensor by_mlp(const EffectJob& job, std::int64_t& evaluations) const;
  at::Tensor by_read_out(const EffectJob& job, std::int64_t& evaluations) const;

  TileModel model_;
  Pairs pairs_;
  EdgeSpace space_;
  Behind behind_;
  TileMetric metric_;
  std::optional<SiteReadOut> site_;
  EdgePlain plain_;
  at::Tensor reads_ = {};  ///< [b, P]: of metrics of the logits
  std::optional<Follower> follower_ = {};
  std::int64_t from_ = 0;  ///< first position at which anything differs
};

}  // namespace plumb
