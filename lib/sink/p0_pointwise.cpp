#include "sink/p0_pointwise.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "model/tiling.h"

namespace plumb {

namespace {

// A BLAS may round the rows of a product that fill none of its kernels otherwise than the rest
// (docs/numerics.md). Products here are made of whole kernels, so that a row has the same bits
// whatever stands beside it.
std::int64_t rows_of_kernels(at::ScalarType type) { return type == at::kDouble ? 8 : 12; }
constexpr std::int64_t rows_at_once = 1536;

// The fewest rows, so many or more, that a run cuts into tiles of whole kernels.
std::int64_t filled_up(std::int64_t rows, std::int64_t of_kernel) {
  for (;; ++rows) {
    const Tiling tiling(rows, 1, false);
    if (tiling.size() % of_kernel == 0 && tiling.sequences(tiling.count() - 1) % of_kernel == 0)
      return rows;
  }
}

// The tensor with its first row repeated behind it.
at::Tensor with_rows(const at::Tensor& values, std::int64_t rows) {
  const std::int64_t more = rows - values.size(0);
  return more == 0 ? values : at::cat({values, values.narrow(0, 0, 1).expand({more, 1, -1})});
}

}  // namespace

P0System::P0System(P0Context& context, int depth)
    : context_(context),
      values_(context.values),
      input_(context.stream(0).narrow(1, 0, 1)),
      depth_(depth),
      components_(components_of_blocks(0, depth)) {}

P0System::P0System(P0Context& context, int depth, const FirstTokens& tokens)
    : context_(context),
      values_(tokens.values),
      input_(tokens.input),
      depth_(depth),
      components_(components_of_blocks(0, depth)) {}

// One component as a function of the stream it reads, [n, 1, d_model] to the same; n is filled up.
at::Tensor P0System::apply_rows(Component component, const at::Tensor& input) {
  Plan plan{.record = {output_site(component)}, .logits = Logits::none};
  plan.restart = Restart{.layer = component.layer, .resid_pre = input};
  plan.until = component.layer + 1;
  if (component.mlp) {
    plan.interventions.push_back({.site = {Part::mlp_in, component.layer}, .edit = Put{input}});
  }
  const at::Tensor ids = at::zeros({input.size(0), 1}, at::kLong);
  const Run run = plumb::run(context_.model, Tokens{.ids = ids}, plan);
  context_.evaluations += run.evaluations;
  return run.cache.at(output_site(component));
}

// The same for several streams, [B, 1, d_model] each: each begins with a kernel, so that its rows
// have the same places in them wherever it stands.
std::vector<at::Tensor> P0System::apply(Component component,
                                        const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> made;
  if (inputs.empty()) return made;
  const std::int64_t of_kernel = rows_of_kernels(context_.model.dtype());
  const std::int64_t B = inputs.front().size(0);
  const std::int64_t apart = (B + of_kernel - 1) / of_kernel * of_kernel;
  const auto at_once = static_cast<std::size_t>(std::max<std::int64_t>(1, rows_at_once / apart));
  for (std::size_t first = 0; first < inputs.size(); first += at_once) {
    const std::size_t last = std::min(inputs.size(), first + at_once);
    std::vector<at::Tensor> pieces;
    for (std::size_t i = first; i < last; ++i) pieces.push_back(with_rows(inputs[i], apart));
    const at::Tensor together = at::cat(pieces);
    const at::Tensor rows =
        apply_rows(component, with_rows(together, filled_up(together.size(0), of_kernel)));
    for (std::size_t i = 0; i < pieces.size(); ++i)
      made.push_back(rows.narrow(0, static_cast<std::int64_t>(i) * apart, B));
  }
  return made;
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

P0System::Writes P0System::writes(const Cuts& cuts) {
  return std::move(writes(std::vector{cuts}).front());
}

std::vector<P0System::Writes> P0System::writes(const std::vector<Cuts>& all) {
  std::vector<Writes> present(all.size());
  std::vector<bool> clean_so_far(all.size(), true);
  for (const auto component : components_) {
    std::vector<std::size_t> changed;
    std::vector<at::Tensor> inputs;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Cuts& cuts = all[i];
      Writes& here = present[i];
      if (cuts.known != nullptr && component < cuts.from) {
        here[component] = cuts.known->at(component);
        clean_so_far[i] = false;
        continue;
      }
      if (cuts.read && !cuts.read(component)) {
        here[component] = donor(component, cuts.donor);  // a place holder
        continue;
      }
      if (std::ranges::find(cuts.replaced, component) != cuts.replaced.end()) {
        here[component] = donor(component, cuts.donor);
        clean_so_far[i] = false;
        continue;
      }
      if (cuts.cut && clean_so_far[i]) {
        clean_so_far[i] = std::ranges::none_of(
            here, [&](const auto& entry) { return cuts.cut(entry.first, component); });
      }
      for (const auto& [edge, change] : cuts.added) {
        if (edge.second == component) clean_so_far[i] = false;
      }
      if (clean_so_far[i]) {  // nothing was changed yet, so the recorded value stands
        here[component] = values_.at(component).own;
        continue;
      }
      changed.push_back(i);
      inputs.push_back(sum_for(component, here, cuts));
    }
    const std::vector<at::Tensor> made = apply(component, inputs);
    for (std::size_t i = 0; i < changed.size(); ++i) present[changed[i]][component] = made[i];
  }
  return present;
}

// What a reader gets: the input and every write before it, or what stands in for it.
at::Tensor P0System::sum_for(Component reader, const Writes& present, const Cuts& cuts) const {
  at::Tensor sum = input_;
  for (const auto& [sender, value] : present) {
    if (!(sender < reader)) break;
    sum = sum + (cuts.cut && cuts.cut(sender, reader) ? donor(sender, cuts.donor) : value);
    const auto added = cuts.added.find({sender, reader});
    if (added != cuts.added.end()) sum = sum + added->second;
  }
  return sum;
}

at::Tensor P0System::state(const Cuts& cuts) { return state(writes(cuts), cuts); }

at::Tensor P0System::state(const Writes& written, const Cuts& cuts) const {
  return sum_for({.layer = depth_, .mlp = false}, written, cuts).squeeze(1);
}

std::vector<at::Tensor> P0System::states(const std::vector<Cuts>& all) {
  const std::vector<Writes> written = writes(all);
  std::vector<at::Tensor> found;
  for (std::size_t i = 0; i < all.size(); ++i) found.push_back(state(written[i], all[i]));
  return found;
}

at::Tensor P0System::projection(const Cuts& cuts, const at::Tensor& direction) {
  return state(cuts).to(at::kDouble).matmul(direction);
}

}  // namespace plumb
