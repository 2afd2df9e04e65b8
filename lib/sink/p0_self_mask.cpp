#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "sink/p0_experiments.h"

namespace plumb {

namespace {

// Of the share of sequences in which position 0 spikes, what the masked position must reach: it
// holds other tokens, and can do no better than they do where they stand first.
constexpr double spiking_needed = 0.9;
constexpr int layers_read = 2;  // layers of the wave that a search run reads

std::vector<Intervention> only_self(const std::vector<int>& layers, std::int64_t position) {
  std::vector<Intervention> edits;
  for (const int layer : layers) {
    edits.push_back(
        {.site = {Part::scores, layer}, .where = {.positions = {position}}, .edit = OnlySelf{}});
  }
  return edits;
}

SelfMask try_mask(P0Context& context, std::size_t w, const std::vector<int>& layers,
                  double clean_sink) {
  const Wave& wave = context.waves[w];
  const std::int64_t k = context.control_position();
  const int until = std::min(wave.last + 1, wave.onset + layers_read);
  const Outcome outcome = context.intervene(only_self(layers, k), until);
  const Effect effect = context.read(w, outcome, k, "", "self-mask", "k");
  SelfMask mask{.layers = layers, .sink = effect.value, .norm = effect.norm};
  const auto spiking = [&](const Outcome& run, std::int64_t position) {
    const at::Tensor norms = run.onset_norm[w].select(1, position);
    return norms.gt(context.spike_norm[w]).to(at::kDouble).mean().item<double>();
  };
  mask.spiking = spiking(outcome, k);
  const double needed = spiking_needed * spiking(context.clean, 0);
  mask.sufficient = (mask.spiking >= needed || !context.spikes(w)) &&
                    mask.sink.mean >= context.options.sufficient * clean_sink;
  return mask;
}

}  // namespace

void test_self_mask(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  if (wave.onset == 0) return;
  const std::int64_t k = context.control_position();
  const int until = std::min(wave.last + 1, wave.onset + layers_read);
  Outcome clean = context.clean;
  clean.received.resize(static_cast<std::size_t>(until));
  const double clean_sink = context.p0_sink(w, until);

  std::vector<int> all;
  for (int layer = 0; layer < wave.onset; ++layer) all.push_back(layer);
  int tried = 0;
  const auto test = [&](const std::vector<int>& layers) {
    const auto known = std::ranges::find(report.self_masks, layers, &SelfMask::layers);
    if (known != report.self_masks.end()) return known->sufficient;
    context.tell("making a sink elsewhere", std::min(0.95, 0.05 * tried++));
    report.self_masks.push_back(try_mask(context, w, layers, clean_sink));
    return report.self_masks.back().sufficient;
  };
  report.self_masks.push_back(
      {.sink = context.read(w, clean, k, "", "", "").value,
       .norm = bootstrap(context.clean.onset_norm[w].select(1, k), context.options.seed)});
  if (!test(all)) return;
  report.smallest_mask = all;
  // Blocks between an earlier wave's onset and this one are the likeliest to be dispensable.
  const int pivot = w == 0 ? 0 : context.waves[w - 1].onset;
  std::vector<int> order;
  for (int layer = pivot; layer < wave.onset; ++layer) order.push_back(layer);
  for (int layer = 0; layer < pivot; ++layer) order.push_back(layer);
  // Whole runs are tried first, halving, so that a deep wave does not cost a run per layer.
  for (std::size_t step = std::max<std::size_t>(1, order.size() / 2); step >= 1; step /= 2) {
    for (std::size_t first = 0; first < order.size(); first += step) {
      std::vector<int> smaller;
      for (const int layer : report.smallest_mask) {
        const auto place =
            static_cast<std::size_t>(std::ranges::find(order, layer) - order.begin());
        if (place < first || place >= first + step) smaller.push_back(layer);
      }
      if (smaller.size() == report.smallest_mask.size() || smaller.empty()) continue;
      if (test(smaller)) report.smallest_mask = smaller;
    }
    if (step == 1) break;
  }
}

void test_restoration(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  const int until = std::min(wave.last + 1, wave.onset + layers_read);
  const std::int64_t position =
      std::min<std::int64_t>(context.options.prefix, context.inputs.length() / 2);
  const auto paste = [&](const std::vector<Component>& components) {
    std::vector<Intervention> edits;
    for (const auto component : components) {
      edits.push_back({.site = output_site(component),
                       .where = {.positions = {position}},
                       .edit = Put{context.values.at(component).own}});
    }
    return edits;
  };
  const auto add = [&](const std::string& name, const std::vector<Component>& components) {
    context.tell("pasting position 0 behind a prefix", 0.5);
    report.restored.push_back(context.read(w, context.intervene_displaced(paste(components), until),
                                           position, name, "displaced run with the clean values",
                                           fmt::format("t = {}", position)));
  };
  std::vector<Component> attention;
  for (int layer = 0; layer < wave.onset; ++layer)
    attention.push_back({.layer = layer, .mlp = false});
  add("nothing", {});
  if (wave.onset > 0) {
    add("a0", {{.layer = 0, .mlp = false}});
    if (wave.onset > 1) add(fmt::format("attention of blocks 0-{}", wave.onset - 1), attention);
    add(fmt::format("all of blocks 0-{}", wave.onset - 1), components_of_blocks(0, wave.onset));
  }
  // The other direction: the displaced token's values pasted into position 0 of the clean run.
  const auto noise = [&](const std::string& name, const std::vector<Component>& components) {
    context.tell("pasting the displaced values into position 0", 0.8);
    report.restored.push_back(
        context.read(w, context.intervene(context.replace(components, Ablation::displaced), until),
                     0, name, "clean run with the displaced values", "P0"));
  };
  if (wave.onset > 0) {
    noise("a0", {{.layer = 0, .mlp = false}});
    if (wave.onset > 1) noise(fmt::format("attention of blocks 0-{}", wave.onset - 1), attention);
    noise(fmt::format("all of blocks 0-{}", wave.onset - 1), components_of_blocks(0, wave.onset));
  }
}

}  // namespace plumb
