// What the sites of an experiment become, as edits of a plan.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "plumb/config.h"
#include "plumb/replacement.h"
#include "plumb/run.h"

namespace plumb {

/// For each example another one of its length, [B] int64: what `resample` takes its values from.
/// Throws bad_argument where an example is alone with its length.
at::Tensor donors(std::uint64_t seed, const at::Tensor& lengths);

/// Edits that one replacement makes at some sites. Safe to use from many threads.
class Replacements {
 public:
  /// `base` and `pasted` (the other run) hold what `records_needed` says. `lengths` [B]: valid
  /// positions of the base run's sequences. Throws bad_argument where the replacement makes no
  /// sense at a site, or a vector does not fit it.
  Replacements(const Replacement& replacement, const std::vector<Site>& sites,
               const ModelConfig& config, const at::Tensor& lengths, const Cache& base,
               const Cache& pasted);

  Intervention edit(const SlicedSite& at) const;
  ReplacementKind kind() const { return ablation_.kind; }

  /// Whether the values come from the other run, or from the unpatched one.
  static bool needs_other(const Replacement& replacement);
  static bool needs_base(const Replacement& replacement);

 private:
  Replacement ablation_;
  std::map<Site, at::Tensor> whole_ = {};  ///< broadcasts to the site's tensor
};

}  // namespace plumb
