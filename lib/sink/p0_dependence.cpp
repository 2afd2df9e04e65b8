#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sink/p0_experiments.h"
#include "sink/p0_pointwise.h"

namespace plumb {

namespace {

constexpr std::array kinds{Ablation::mean, Ablation::resample};
constexpr double gone = 0.05;  // share of sequences that may still spike
constexpr double lasts = 0.5;  // and what has to, by one kind of replacement, without one route

// Share of sequences in which position 0 still spikes when each of the sets is replaced.
std::vector<double> spiking(P0Context& context, P0System& system, std::size_t w,
                            const std::vector<std::vector<Component>>& sets, Ablation kind) {
  std::vector<P0System::Cuts> all;
  for (const auto& set : sets) all.push_back({.replaced = set, .cut = {}, .donor = kind});
  std::vector<double> shares;
  for (const auto& state : system.states(all)) {
    shares.push_back(at::linalg_vector_norm(state, 2, c10::IntArrayRef{-1})
                         .gt(context.spike_norm[w])
                         .to(at::kDouble)
                         .mean()
                         .item<double>());
  }
  return shares;
}

std::vector<Component> attention_of(int first, int last) {
  std::vector<Component> set;
  for (int layer = first; layer < last; ++layer) set.push_back({.layer = layer, .mlp = false});
  return set;
}

std::vector<Component> joined(std::vector<Component> a, const std::vector<Component>& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::ranges::sort(a);
  return a;
}

// Whether the norm lasts in most sequences, by one kind of replacement at least.
bool survives(P0Context& context, P0System& system, std::size_t w,
              const std::vector<Component>& set) {
  return std::ranges::any_of(kinds, [&](Ablation kind) {
    return spiking(context, system, w, {set}, kind).front() >= lasts;
  });
}

// The shortest run of attention layers after the earlier circuit without which it cannot be missed:
// found on position 0's own closed system, which is cheap.
std::vector<Component> alternative_route(P0Context& context, P0System& system, std::size_t w,
                                         const std::vector<Component>& earlier) {
  const int early = context.waves[w - 1].onset;
  const int onset = context.waves[w].onset;
  for (int length = 1; length <= onset - early; ++length) {
    context.tell("searching alternative routes", static_cast<double>(length) / (onset - early));
    std::vector<std::vector<Component>> routes;
    for (int first = early; first + length <= onset; ++first)
      routes.push_back(attention_of(first, first + length));
    for (const auto kind : kinds) {
      std::vector<std::vector<Component>> sets;
      for (const auto& route : routes) sets.push_back(joined(earlier, route));
      const auto shares = spiking(context, system, w, sets, kind);
      std::vector<std::vector<Component>> left;
      for (std::size_t i = 0; i < routes.size(); ++i) {
        if (shares[i] < gone) left.push_back(routes[i]);
      }
      routes = std::move(left);
    }
    for (const auto& route : routes) {
      if (survives(context, system, w, route)) return route;
    }
  }
  return {};
}

}  // namespace

void test_dependence(P0Context& context, std::size_t w, WaveReport& report) {
  if (w == 0) return;
  const Wave& wave = context.waves[w];
  const int early = context.waves[w - 1].onset;
  const auto earlier = components_of_blocks(0, early);
  const std::string earlier_name = fmt::format("blocks 0-{}", early - 1);
  P0System system(context, wave.onset);

  // What goes with the earlier circuit alone has no other route.
  const bool outlives = survives(context, system, w, earlier);
  const std::vector<Component> route =
      outlives ? alternative_route(context, system, w, earlier) : std::vector<Component>{};
  std::string route_name;
  if (!route.empty()) {
    route_name = route.size() == 1
                     ? to_string(route.front())
                     : fmt::format("a{}-a{}", route.front().layer, route.back().layer);
  }

  for (const auto kind : kinds) {
    const auto shares = spiking(context, system, w, {earlier, route, joined(earlier, route)}, kind);
    std::string sentence = fmt::format(
        "with {} replaced by {} at position 0, this wave's norm survives in {:.0f} % of sequences",
        earlier_name, to_string(kind), 100.0 * shares[0]);
    if (!route.empty()) {
      sentence += fmt::format("; with {} replaced alone in {:.0f} %, with both in {:.0f} %",
                              route_name, 100.0 * shares[1], 100.0 * shares[2]);
    }
    report.dependence.push_back(sentence);
    context.tell("knocking out the earlier circuit", kind == Ablation::mean ? 0.0 : 0.5);
    report.dependence_effects.push_back(
        context.read(w, context.intervene(context.replace(earlier, kind), std::nullopt), 0,
                     earlier_name, to_string(kind), "P0"));
    if (route.empty()) continue;
    const int until = std::min(wave.last + 1, wave.onset + 4);
    report.dependence_effects.push_back(
        context.read(w, context.intervene(context.replace(joined(earlier, route), kind), until), 0,
                     earlier_name + " and " + route_name, to_string(kind), "P0"));
  }
  if (!outlives) {
    report.dependence.push_back(fmt::format(
        "nothing stands in for {}: without them the norm is gone in most sequences", earlier_name));
  } else if (route.empty()) {
    report.dependence.push_back(
        fmt::format("no run of attention layers {}-{} is an alternative to {}", early,
                    wave.onset - 1, earlier_name));
  } else {
    Alternatives either{.shown_by = "set"};
    for (const auto& set : {earlier, route}) {
      either.routes.emplace_back();
      for (const auto component : set) either.routes.back().push_back(to_string(component));
    }
    report.alternatives.push_back(std::move(either));
    report.dependence.push_back(
        fmt::format("{} and {} are alternatives: only without both does the norm vanish by mean "
                    "and by resample",
                    earlier_name, route_name));
  }
}

}  // namespace plumb
