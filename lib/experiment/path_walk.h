// What a sender's change makes of the streams that receivers read, heads on the way frozen.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "experiment/replacements.h"
#include "model/follow.h"
#include "plumb/patch.h"

namespace plumb {

/// Changes of what is written to the stream, at positions [from, from + count).
struct Changes {
  std::int64_t from = 0;
  std::int64_t count = 0;
  at::Tensor embed = {};                     ///< [B, count, d_model]
  std::map<int, at::Tensor> attention = {};  ///< by layer: [B, count, d_model]
  std::map<int, at::Tensor> mlp = {};
};

class PathWalk {
 public:
  /// `base` is what the unpatched run recorded: `records` of the senders and hops.
  PathWalk(const Model& model, const Follower& follower, const Trunk& trunk, const Cache& base,
           const Replacements& replacements, PathMlps mlps);

  static std::vector<Record> records(const std::vector<Site>& senders, const Paths& paths,
                                     const ModelConfig& config);
  /// The last block whose MLP's write reaches one of these, -1 = none.
  static int last_mlp_read(const std::vector<SlicedSite>& receivers, const ModelConfig& config);

  /// What the senders write, patched, less what they write.
  Changes send(const std::vector<SlicedSite>& senders) const;
  /// The receivers' values at the positions of the changes, in the receivers' order: [B, count,
  /// ...] of the whole site. Undefined where nothing arrives. Adds the MLPs run on the way.
  std::vector<at::Tensor> arrive(const Changes& changes, const std::vector<SlicedSite>& receivers,
                                 std::int64_t& evaluations) const;
  /// What the nodes write when their inputs are what arrived, less what they write.
  Changes pass_on(const Changes& changes, const std::vector<SlicedSite>& nodes,
                  const std::vector<at::Tensor>& arrived, std::int64_t& evaluations) const;

  /// The edit that pastes what arrived at a receiver, where positions of both meet; nothing if
  /// there is none. Of n items `arrived` has n times as many sequences.
  static std::optional<Intervention> paste(const SlicedSite& receiver, const at::Tensor& arrived,
                                           std::int64_t from);

 private:
  at::Tensor written_by_heads(int layer, const at::Tensor& z) const;
  at::Tensor mlp_change(int layer, const at::Tensor& stream, const Changes& span) const;
  at::Tensor edited_rows(const std::vector<SlicedSite>& sites, const Changes& span) const;
  at::Tensor base_rows(Site site, const Changes& span) const;

  const Model& model_;
  const Follower& follower_;
  const Trunk& trunk_;
  const Cache& base_;
  const Replacements& replacements_;
  PathMlps mlps_;
};

}  // namespace plumb
