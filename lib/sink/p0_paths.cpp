// B5: activation and path patching between a normal and a displaced run.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sink/p0_catalogue_runs.h"
#include "sink/p0_ledger.h"
#include "sink/p0_pointwise.h"

namespace plumb::p0 {

namespace {

std::string names_of(const std::vector<Component>& components) {
  std::string text;
  for (const auto component : components) text += (text.empty() ? "" : ", ") + to_string(component);
  return text;
}

}  // namespace

void patch_paths(P0Bench& bench) {
  const Wave& wave = bench.wave();
  const auto components = components_of_blocks(0, wave.onset);
  if (components.empty()) {
    bench.find("not run: the wave starts at layer 0, before any component");
    return;
  }
  // The clean values of position 0 pasted into the run in which its token stands behind a prefix.
  const std::int64_t place =
      std::min<std::int64_t>(bench.context.options.prefix, bench.length() / 2);
  const Tokens displaced{.ids = bench.context.displaced_ids,
                         .lengths = bench.context.inputs.tokens.lengths};
  const auto paste = [&](const std::string& name, const std::vector<Component>& set) {
    std::vector<Intervention> edits;
    for (const auto component : set) {
      edits.push_back({.site = output_site(component),
                       .where = {.positions = {place}},
                       .edit = Put{bench.context.values.at(component).own}});
    }
    bench.run_tokens(name, "edit", at_position(place) + " of the displaced run", displaced, edits,
                     place);
    return bench.last_values();
  };
  const at::Tensor floor = paste("nothing pasted", {});
  const double ceiling = bench.context.p0_sink(bench.w, wave.last + 1);
  const auto seed = bench.context.options.seed;
  std::vector<double> recovered;
  const auto keep = [&](const at::Tensor& values) {
    const double range = std::max(ceiling - floor.mean().item<double>(), 1e-9);
    const Estimate share = bootstrap((values - floor) / range, seed);
    recovered.insert(recovered.end(), {share.mean, share.low, share.high});
  };
  for (const auto component : components)
    keep(paste(to_string(component) + " pasted", {component}));
  std::vector<Component> attention;
  for (const auto component : components) {
    if (!component.mlp) attention.push_back(component);
  }
  keep(paste("all attention pasted", attention));
  keep(paste("all of them pasted", components));
  const auto count = static_cast<std::int64_t>(components.size());
  bench.array("recovered", {"patched", "mean_low_high"},
              at::tensor(recovered, at::kDouble).view({count + 2, 3}),
              "share of position 0's sink recovered at the displaced token by the clean value of " +
                  names_of(components) + "; all attention; all");

  // Single paths inside position 0: one reader gets the sender's mean over t > 0.
  P0System system(bench.context, wave.onset);
  const at::Tensor& direction = bench.context.direction[bench.w];
  const at::Tensor whole = system.projection({}, direction);
  std::vector<Component> readers = components;
  readers.push_back({.layer = wave.onset, .mlp = false});
  at::Tensor lost = at::full({count, count + 1}, std::nan(""), at::kDouble);
  for (std::int64_t s = 0; s < count; ++s) {
    for (std::int64_t r = s + 1; r <= count; ++r) {
      const auto sender = components[static_cast<std::size_t>(s)];
      const auto reader = readers[static_cast<std::size_t>(r)];
      const auto cut = [&](Component a, Component b) { return a == sender && b == reader; };
      const at::Tensor left = system.projection({.replaced = {}, .cut = cut}, direction);
      lost[s][r] = ((whole - left).mean() / whole.mean()).item<double>();
    }
  }
  bench.array("paths", {"sender", "reader"}, lost,
              "share of the projection on the sink direction lost when this reader alone gets the "
              "sender's mean over t > 0; senders and readers: " +
                  names_of(components) + "; the last reader is the state entering the wave");

  // The last link: the keys of the wave read the stream without a writer.
  const Ledger found = make_ledger(bench.context, bench.w);
  for (const auto writer : writers_of(found, bench.context.options.located)) {
    const auto& value = bench.context.values.at(writer);
    std::vector<Intervention> keys;
    std::vector<Intervention> noise;
    for (int layer = wave.onset; layer <= wave.last; ++layer) {
      const Slice first{.positions = {0}};
      keys.push_back(
          {.site = {Part::k_in, layer}, .where = first, .edit = Add{value.mean - value.own}});
      noise.push_back({.site = {Part::k_in, layer},
                       .where = first,
                       .edit = Add{bench.random_like(value.mean - value.own)}});
    }
    const std::string name = to_string(writer) + " to the wave's keys cut";
    bench.run(name, "edit", "P0", keys);
    bench.run(name, "random vector", "P0", noise);
  }
}

}  // namespace plumb::p0
