#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "sink/p0_contrast.h"
#include "sink/p0_experiments.h"
#include "sink/p0_ledger.h"
#include "sink/p0_pointwise.h"

namespace plumb {

namespace {

constexpr std::array knockout_kinds{Ablation::zero, Ablation::mean, Ablation::resample};
constexpr std::array set_kinds{Ablation::mean, Ablation::resample};

constexpr std::size_t pair_members = 4;  // components among which all pairs are tried
constexpr std::size_t read_in_full =
    4;                          // components whose effect on a late wave is read in all its layers
constexpr double needed = 0.3;  // share of the sink or of the norm that a needed one's takes away
constexpr double takes_over =
    0.1;  // share of the projection that a backup writes in a writer's place
constexpr double alone_enough = 0.8;  // single knock-outs from here on make pairs pointless
constexpr double dispensable = 0.5;   // members of backups remove less than this alone
constexpr double synergy =
    0.2;  // what a pair must remove beyond the best single to be preferred to it

// The strongest single effect of a component over the kinds, on the sink or on the norm.
double strongest(const WaveReport& report, const std::string& name, bool by_sink) {
  double largest = 0.0;
  for (const auto& effect : report.knockouts) {
    if (effect.name != name) continue;
    const double norm_change = std::abs(1.0 - effect.norm.mean / report.clean.norm.mean);
    largest = std::max(largest, by_sink ? effect.removed : std::min(1.0, norm_change));
  }
  return largest;
}

// Whether the component is needed: some knock-out of it lowers the sink, or the norm, by enough.
// One that only raises the norm shows that the component is in the way.
bool is_needed(const WaveReport& report, const std::string& name) {
  return std::ranges::any_of(report.knockouts, [&](const Effect& effect) {
    const double norm_lost = 1.0 - effect.norm.mean / report.clean.norm.mean;
    return effect.name == name && std::max(effect.removed, norm_lost) >= needed;
  });
}

const Effect* find_effect(const std::vector<Effect>& effects, const std::string& name,
                          const std::string& kind) {
  const auto found = std::ranges::find_if(
      effects, [&](const Effect& effect) { return effect.name == name && effect.kind == kind; });
  return found == effects.end() ? nullptr : &*found;
}

double removed_by(const std::vector<Effect>& effects, const std::string& name,
                  const std::string& kind) {
  const Effect* effect = find_effect(effects, name, kind);
  return effect == nullptr ? 0.0 : effect->removed;
}

// The component whose replacement by mean and by resample removes most, and how much both do.
std::pair<double, Component> strongest_single(const WaveReport& report,
                                              const std::vector<Component>& components) {
  std::pair<double, Component> best{-1.0, {}};
  for (const auto component : components) {
    const auto name = to_string(component);
    const double removed = std::min(removed_by(report.knockouts, name, "mean"),
                                    removed_by(report.knockouts, name, "resample"));
    if (removed > best.first) best = {removed, component};
  }
  return best;
}

// The share removed in the wave's layers before `until` alone, so that runs that stopped at
// different layers can be compared.
double removed_before(const P0Context& context, std::size_t w, const Effect& effect, int until) {
  double sum = 0.0;
  int counted = 0;
  const int last =
      std::min({until, context.waves[w].last + 1, static_cast<int>(effect.sink.size())});
  for (int layer = context.waves[w].onset; layer < last; ++layer, ++counted)
    sum += effect.sink[static_cast<std::size_t>(layer)];
  const double base = context.p0_sink(w, last);
  return (base - sum / std::max(1, counted)) / std::max(base - context.null_at(0), 1e-9);
}

void put_effect(std::vector<Effect>& effects, Effect effect) {
  const auto old = std::ranges::find_if(effects, [&](const Effect& known) {
    return known.name == effect.name && known.kind == effect.kind;
  });
  if (old == effects.end()) {
    effects.push_back(std::move(effect));
  } else {
    *old = std::move(effect);
  }
}

// Components that write the direction once its writers do not: idle as long as these do, so that
// their own knock-outs show nothing.
std::vector<std::pair<double, Component>> takers_over(P0Context& context, std::size_t w,
                                                      const WaveReport& report) {
  std::vector<Component> writers;
  for (const auto& name : report.writers) writers.push_back(component_named(name));
  if (writers.empty()) return {};
  P0System system(context, context.waves[w].onset);
  const at::Tensor& direction = context.direction[w];
  const auto along = [&](const at::Tensor& value) {
    return value.to(at::kDouble).matmul(direction).mean().item<double>();
  };
  std::vector<std::pair<double, Component>> found;
  for (const auto& [component, value] :
       system.writes({.replaced = writers, .cut = {}, .donor = Ablation::mean})) {
    const double gained =
        (along(value) - along(context.values.at(component).own)) / report.ledger.total;
    const bool writer = std::ranges::find(writers, component) != writers.end();
    if (!writer && gained >= takes_over) found.emplace_back(gained, component);
  }
  return found;
}

// Sets that may be necessary: first the single component that removes most, or a pair that removes
// much more; then other singles, then other pairs that remove enough.
std::vector<std::vector<Component>> candidates(const WaveReport& report,
                                               const std::vector<Component>& components,
                                               const std::vector<std::vector<Component>>& sets) {
  const auto removed_by_both = [](const std::vector<Effect>& effects,
                                  const std::vector<Component>& set) {
    return std::min(removed_by(effects, to_string(set), "mean"),
                    removed_by(effects, to_string(set), "resample"));
  };
  auto [most, single] = strongest_single(report, components);
  std::vector<Component> first{single};
  std::vector<std::pair<double, std::vector<Component>>> singles;
  std::vector<std::pair<double, std::vector<Component>>> pairs;
  for (const auto component : components)
    singles.emplace_back(removed_by_both(report.knockouts, {component}), std::vector{component});
  for (const auto& set : sets) {
    if (set.size() == 2) pairs.emplace_back(removed_by_both(report.sets, set), set);
  }
  if (most < alone_enough) {
    for (const auto& [removed, pair] : pairs) {
      if (removed <= most + synergy) continue;
      first = pair;
      most = removed;
    }
  }
  std::vector<std::vector<Component>> found{first};
  for (auto* others : {&singles, &pairs}) {
    std::ranges::stable_sort(*others,
                             [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [removed, set] : *others) {
      if (removed >= alone_enough && set != first) found.push_back(set);
    }
  }
  return found;
}

}  // namespace

void knock_out_sets(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  const int until = std::min(wave.last + 1, wave.onset + 4);
  const auto components = components_of_blocks(0, wave.onset);

  // What a screening run said, strongest first; writers lead.
  std::vector<std::pair<double, Component>> ranked;
  for (const auto component : components) {
    const auto name = to_string(component);
    const double effect = std::max(strongest(report, name, true), strongest(report, name, false));
    const bool writer = std::ranges::find(report.writers, name) != report.writers.end();
    if (!writer && is_needed(report, name)) report.upstream.push_back(name);
    if (writer || effect >= knockout_matters)
      ranked.emplace_back(effect + (writer ? 1.0 : 0.0), component);
  }
  std::ranges::stable_sort(ranked, [](const auto& a, const auto& b) { return a.first > b.first; });
  // Of a late wave that lasts to the end the strongest by far is read with its loss at once: it is
  // the set that removes most, whose loss is read in any case.
  const bool to_the_end = wave.last + 1 == context.layers();
  const Component foremost = strongest_single(report, components).second;
  if (w > 0 && report.clean.sink.size() > static_cast<std::size_t>(wave.onset) + 1) {
    for (std::size_t i = 0; i < std::min(ranked.size(), read_in_full); ++i) {
      const bool writer =
          std::ranges::find(report.writers, to_string(ranked[i].second)) != report.writers.end();
      for (const auto kind : knockout_kinds) {
        if (kind == Ablation::zero && !writer) continue;
        context.tell("reading the strongest components in full",
                     static_cast<double>(i) / static_cast<double>(read_in_full));
        const auto edits = context.replace({ranked[i].second}, kind);
        const bool with_loss = to_the_end && kind != Ablation::zero && ranked[i].second == foremost;
        const auto until = with_loss ? std::nullopt : std::optional(wave.last + 1);
        put_effect(report.knockouts,
                   context.read(w, context.intervene(edits, until), 0, to_string(ranked[i].second),
                                to_string(kind), "P0"));
      }
    }
  }
  for (const auto& [gained, component] : takers_over(context, w, report)) {
    const auto known =
        std::ranges::find_if(ranked, [&](const auto& entry) { return entry.second == component; });
    if (known == ranked.end()) ranked.emplace_back(1.0 + gained, component);
  }
  std::ranges::stable_sort(ranked, [](const auto& a, const auto& b) { return a.first > b.first; });
  // Pairs with a component that suffices alone would say nothing.
  std::erase_if(ranked, [&](const auto& entry) {
    const auto name = to_string(entry.second);
    return std::min(removed_by(report.knockouts, name, "mean"),
                    removed_by(report.knockouts, name, "resample")) >= alone_enough;
  });
  ranked.resize(std::min(ranked.size(), pair_members));

  std::vector<std::vector<Component>> sets;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    for (std::size_t j = i + 1; j < ranked.size(); ++j) {
      std::vector<Component> pair{ranked[i].second, ranked[j].second};
      std::ranges::sort(pair);
      sets.push_back(pair);
    }
  }
  sets.push_back(components);
  std::size_t done = 0;
  for (const auto& set : sets) {
    const bool everything = set.size() == components.size();
    const std::string name =
        everything && wave.onset > 1 ? fmt::format("blocks 0-{}", wave.onset - 1) : to_string(set);
    context.tell("knocking out sets",
                 static_cast<double>(done++) / static_cast<double>(sets.size()));
    double pair_removed = 1.0;
    double alone = 0.0;
    for (const auto kind : set_kinds) {
      const Effect effect = context.read(w, context.intervene(context.replace(set, kind), until), 0,
                                         name, to_string(kind), "P0");
      pair_removed = std::min(pair_removed, effect.removed);
      for (const auto component : set) {
        const Effect* single = find_effect(report.knockouts, to_string(component), to_string(kind));
        if (single != nullptr) alone = std::max(alone, removed_before(context, w, *single, until));
      }
      report.sets.push_back(effect);
    }
    if (set.size() == 2 && pair_removed >= alone_enough && alone < dispensable) {
      report.backups.push_back({to_string(set[0]), to_string(set[1])});
    }
  }

  // The smallest set that removes most and more than its controls do, at full depth with its effect
  // on the loss.
  const auto chosen = choose_by_controls(context, w, candidates(report, components, sets), report);
  auto& effects = chosen.size() == 1 ? report.knockouts : report.sets;
  for (const auto kind : set_kinds) {
    const Effect* known = find_effect(effects, to_string(chosen), to_string(kind));
    if (known != nullptr && known->loss_change) continue;
    context.tell("reading the loss", kind == Ablation::mean ? 0.0 : 0.5);
    const auto edits = context.replace(chosen, kind);
    put_effect(effects, context.read(w, context.intervene(edits, std::nullopt), 0,
                                     to_string(chosen), to_string(kind), "P0"));
  }
}

}  // namespace plumb
