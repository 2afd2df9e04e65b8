#include "sink/p0_pointwise.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace plumb {

P0System::P0System(P0Context& context, int depth)
    : context_(context),
      values_(context.values),
      ids_(context.inputs.tokens.ids.narrow(1, 0, 1)),
      input_(context.stream(0).narrow(1, 0, 1)),
      depth_(depth),
      components_(components_of_blocks(0, depth)) {}

P0System::P0System(P0Context& context, int depth, const FirstTokens& tokens)
    : context_(context),
      values_(tokens.values),
      ids_(tokens.ids),
      input_(tokens.input),
      depth_(depth),
      components_(components_of_blocks(0, depth)) {}

// One component as a function of the stream it reads, [B, 1, d_model] to the same.
at::Tensor P0System::apply(Component component, const at::Tensor& input) {
  Plan plan{.record = {output_site(component)}, .logits = Logits::none};
  plan.restart = Restart{.layer = component.layer, .resid_pre = input};
  plan.until = component.layer + 1;
  if (component.mlp) {
    plan.interventions.push_back({.site = {Part::mlp_in, component.layer}, .edit = Put{input}});
  }
  const Run run = plumb::run(context_.model, Tokens{.ids = ids_}, plan);
  context_.evaluations += run.evaluations;
  return run.cache.at(output_site(component));
}

at::Tensor P0System::donor(Component component, Ablation ablation) const {
  const auto& value = values_.at(component);
  switch (ablation) {
    case Ablation::zero: return at::zeros_like(value.own);
    case Ablation::mean: return value.mean;
    case Ablation::resample: return value.resample;
    case Ablation::displaced: return value.displaced;
  }
  return value.mean;
}

std::map<Component, at::Tensor> P0System::writes(const Cuts& cuts) {
  std::map<Component, at::Tensor> present;
  bool clean_so_far = true;
  for (const auto component : components_) {
    if (cuts.known != nullptr && component < cuts.from) {
      present[component] = cuts.known->at(component);
      clean_so_far = false;
      continue;
    }
    if (cuts.read && !cuts.read(component)) {
      present[component] = donor(component, cuts.donor);  // a place holder
      continue;
    }
    if (std::ranges::find(cuts.replaced, component) != cuts.replaced.end()) {
      present[component] = donor(component, cuts.donor);
      clean_so_far = false;
      continue;
    }
    if (cuts.cut && clean_so_far) {
      clean_so_far = std::ranges::none_of(
          present, [&](const auto& entry) { return cuts.cut(entry.first, component); });
    }
    // Nothing was changed yet, so the recorded value stands.
    present[component] = clean_so_far ? values_.at(component).own
                                      : apply(component, sum_for(component, present, cuts));
  }
  return present;
}

// What a reader gets: the input and every write before it, or what stands in for it.
at::Tensor P0System::sum_for(Component reader, const std::map<Component, at::Tensor>& present,
                             const Cuts& cuts) const {
  at::Tensor sum = input_;
  for (const auto& [sender, value] : present) {
    if (!(sender < reader)) break;
    sum = sum + (cuts.cut && cuts.cut(sender, reader) ? donor(sender, cuts.donor) : value);
  }
  return sum;
}

at::Tensor P0System::state(const Cuts& cuts) { return state(writes(cuts), cuts); }

at::Tensor P0System::state(const std::map<Component, at::Tensor>& written, const Cuts& cuts) const {
  return sum_for({.layer = depth_, .mlp = false}, written, cuts).squeeze(1);
}

at::Tensor P0System::projection(const Cuts& cuts, const at::Tensor& direction) {
  return state(cuts).to(at::kDouble).matmul(direction);
}

}  // namespace plumb
