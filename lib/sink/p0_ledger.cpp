#include "sink/p0_ledger.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "plumb/error.h"

namespace plumb {

namespace {

constexpr double resolved_share = 0.02;  // components below this share are not taken apart
constexpr double erased_share = 0.1;     // a component that takes away this share is an eraser
constexpr std::size_t heads_kept = 12;
constexpr std::size_t neurons_kept = 16;
constexpr int neurons_per_mlp = 5;

double along(const at::Tensor& values, const at::Tensor& direction) {
  return values.to(at::kDouble).matmul(direction).mean().item<double>();
}

void largest_first(std::vector<LedgerRow>& rows, std::size_t keep) {
  std::ranges::stable_sort(
      rows, [](const auto& a, const auto& b) { return std::abs(a.p0) > std::abs(b.p0); });
  rows.resize(std::min(rows.size(), keep));
}

// What a component's neurons or heads' values, multiplied by its output matrix, are read along: the
// direction, or [B, d_model] where the component has a norm on what it writes, which multiplies by
// its scale at the position and its gain.
at::Tensor reader(const P0Context& context, const Run& run, Component component,
                  const at::Tensor& direction) {
  if (context.model.config().norm_place == NormPlace::before) return direction;
  const Part part = component.mlp ? Part::ln2_post_scale : Part::ln1_post_scale;
  const at::Tensor scale = run.cache.at({part, component.layer}).squeeze(1).to(at::kDouble);
  const at::Tensor& gain =
      context.model.weight(component.mlp ? Weight::ln2_post : Weight::ln1_post, component.layer);
  const at::Tensor along = direction.to(scale.device()) * scale;
  return gain.defined() ? along * gain.to(at::kDouble) : along;
}

// Mean over the sequences of values [B, n] times what reads them, [n] or [B, n].
at::Tensor mean_parts(const at::Tensor& values, const at::Tensor& read) {
  return read.dim() == 1 ? values.mean(0) * read : (values * read).mean(0);
}

// Heads and neurons of the components that matter, from one pass over the first tokens alone; the
// means over t > 0 are left out (NaN), since they would need every position's z and neurons.
// Mixtures of experts stay whole.
void take_apart(P0Context& context, const at::Tensor& direction, std::vector<Component> components,
                Ledger& ledger) {
  const auto& config = context.model.config();
  std::erase_if(components, [&](const Component& component) {
    return component.mlp && is_sparse(config, component.layer);
  });
  if (components.empty()) return;
  Plan plan{.logits = Logits::none};
  int deepest = 0;
  for (const auto component : components) {
    plan.record.push_back({Site{component.mlp ? Part::mlp_post : Part::z, component.layer}});
    if (config.norm_place != NormPlace::before) {
      plan.record.push_back(
          {Site{component.mlp ? Part::ln2_post_scale : Part::ln1_post_scale, component.layer}});
    }
    deepest = std::max(deepest, component.layer);
  }
  plan.until = deepest + 1;
  const Run run =
      plumb::run(context.model, Tokens{.ids = context.inputs.tokens.ids.narrow(1, 0, 1)}, plan);
  context.evaluations += run.evaluations;
  const double unknown = std::nan("");
  for (const auto component : components) {
    if (component.mlp) {
      const at::Tensor post =
          run.cache.at({Part::mlp_post, component.layer}).squeeze(1).to(at::kDouble);
      const at::Tensor down = context.model.weight(Weight::down, component.layer).to(at::kDouble);
      const at::Tensor parts = mean_parts(
          post, reader(context, run, component, direction).to(down.device()).matmul(down));
      const auto order =
          std::get<1>(parts.abs().topk(std::min<std::int64_t>(neurons_per_mlp, parts.size(0))));
      for (std::int64_t i = 0; i < order.size(0); ++i) {
        const auto neuron = order[i].item<std::int64_t>();
        ledger.neurons.push_back({fmt::format("{}.n{}", to_string(component), neuron),
                                  parts[neuron].item<double>(), unknown});
      }
    } else {
      const at::Tensor z =
          run.cache.at({Part::z, component.layer}).squeeze(1).to(at::kDouble).flatten(1);
      const at::Tensor out = context.model.weight(Weight::out, component.layer).to(at::kDouble);
      const at::Tensor read =
          reader(context, run, component, direction).to(out.device()).matmul(out);
      const at::Tensor parts = mean_parts(z, read).view({config.heads, config.d_head}).sum(1);
      for (int head = 0; head < config.heads; ++head) {
        ledger.heads.push_back({fmt::format("{}.h{}", to_string(component), head),
                                parts[head].item<double>(), unknown});
      }
    }
  }
  largest_first(ledger.heads, heads_kept);
  largest_first(ledger.neurons, neurons_kept);
}

}  // namespace

Component component_named(const std::string& name) {
  int layer = 0;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), layer);
  if (name.size() < 2 || (name[0] != 'a' && name[0] != 'm') || error != std::errc{} ||
      *end != '\0') {
    throw Error(ErrorKind::internal, fmt::format("\"{}\" names no component", name));
  }
  return {.layer = layer, .mlp = name[0] == 'm'};
}

Ledger make_ledger(P0Context& context, std::size_t w) {
  const Wave& wave = context.waves[w];
  const at::Tensor& direction = context.direction[w];
  Ledger ledger;
  ledger.total = along(context.stream(wave.onset).select(1, 0), direction);
  const at::Tensor input = context.stream(0);
  ledger.components.push_back({"input", along(input.select(1, 0), direction),
                               along(input.narrow(1, 1, input.size(1) - 1), direction)});
  double sum = ledger.components.front().p0;
  std::vector<Component> resolved;
  const auto row = [&](Component component) {
    const auto& value = context.values.at(component);
    return LedgerRow{to_string(component), along(value.own, direction),
                     along(value.mean, direction)};
  };
  for (const auto component : components_of_blocks(0, wave.onset)) {
    ledger.components.push_back(row(component));
    const double part = ledger.components.back().p0;
    sum += part;
    if (std::abs(part) >= resolved_share * ledger.total) resolved.push_back(component);
    if (part <= -erased_share * ledger.total) ledger.erasers.push_back(ledger.components.back());
  }
  ledger.closing_error = std::abs(sum - ledger.total) / std::abs(ledger.total);
  for (const auto component :
       components_of_blocks(wave.onset, std::min(wave.last + 2, context.layers()))) {
    const LedgerRow later = row(component);
    if (later.p0 > -erased_share * ledger.total) continue;
    ledger.erasers.push_back(later);
    resolved.push_back(component);
  }
  take_apart(context, direction, resolved, ledger);
  return ledger;
}

std::vector<Component> writers_of(const Ledger& ledger, double share) {
  std::vector<LedgerRow> rows(ledger.components.begin() + 1, ledger.components.end());
  std::ranges::stable_sort(rows, std::ranges::greater{}, &LedgerRow::p0);
  std::vector<Component> writers;
  double sum = ledger.components.front().p0;
  for (const auto& row : rows) {
    if (sum >= share * ledger.total || row.p0 <= 0.0) break;
    writers.push_back(component_named(row.name));
    sum += row.p0;
  }
  std::ranges::sort(writers);
  return writers;
}

}  // namespace plumb
