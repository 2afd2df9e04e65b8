// Patching the plain way: one whole forward pass for each site.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>

#include "plumb/patch.h"

namespace plumb::test {

/// The metric of each pair from the logits [B, vocab] at its read position, by its definition.
at::Tensor naive_metric(const Metric& metric, const Pairs& pairs, const at::Tensor& logits,
                        const at::Tensor& clean_logits);

/// The metric of one run under a plan, by its definition: [B]. `clean` says which tokens are run;
/// `fixed` are the edits of the clean run that kl and its like compare with.
at::Tensor naive_read(const Model& model, const Pairs& pairs, const Metric& metric, bool clean,
                      const Plan& plan, const std::vector<Intervention>& fixed = {});

/// What sites become, whole: found once where many edits are made of one experiment.
using Memo = std::map<Site, at::Tensor>;

/// The edit that a replacement makes of a site (of which an axis is whole or has one index), its
/// values read off runs under `fixed`.
Intervention naive_edit(const Model& model, const Pairs& pairs, const SlicedSite& at,
                        const Replacement& replacement, Direction direction,
                        const std::vector<Intervention>& fixed, Memo* memo = nullptr);
/// Those of the options' fixed edits.
std::vector<Intervention> naive_fixed(const Model& model, const Pairs& pairs,
                                      const PatchOptions& options);

/// `Sweep::each` as one whole forward pass for each site gives it.
at::Tensor naive_patch(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                       const PatchOptions& options);

}  // namespace plumb::test
