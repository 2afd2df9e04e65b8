#include "sink/p0_contrast.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace plumb {

namespace {

constexpr std::array kinds{Ablation::mean, Ablation::resample};
constexpr std::size_t sets_tried = 4;
constexpr int layers_read = 4;  // of the wave
const char* const same_size = "random change of its size";

std::string edit_name(const std::string& set, const std::string& kind) {
  return set + " by " + kind;
}

const Effect* effect_of(const WaveReport& report, const std::string& set, const std::string& kind) {
  for (const auto* effects : {&report.knockouts, &report.sets}) {
    for (const auto& effect : *effects) {
      if (effect.name == set && effect.kind == kind) return &effect;
    }
  }
  return nullptr;
}

// The share of the excess that is gone in layers of the wave, by sequence.
at::Tensor removed_shares(const P0Context& context, std::size_t w, const Effect& effect, int last) {
  const int onset = context.waves[w].onset;
  const at::Tensor left = effect.each.narrow(0, onset, last - onset).mean(0);
  at::Tensor clean = at::zeros_like(left);
  for (int layer = onset; layer < last; ++layer) {
    const at::Tensor& received = context.clean.received[static_cast<std::size_t>(layer)];
    clean = clean + received.select(1, 0).narrow(0, 0, left.size(0)).to(at::kDouble);
  }
  clean = clean / static_cast<double>(last - onset);
  return (clean - left) / std::max(clean.mean().item<double>() - context.null_at(0), 1e-9);
}

struct Controls {
  std::vector<Effect> effects = {};
  std::vector<Contrast> contrasts = {};
};

Controls run_controls(P0Context& context, std::size_t w, const std::vector<Component>& set,
                      const WaveReport& report) {
  const std::int64_t k = context.control_position();
  const int until = std::min(context.waves[w].last + 1, context.waves[w].onset + layers_read);
  const std::string name = to_string(set);
  Controls made;
  std::vector<Intervention> elsewhere;
  for (const auto component : set) {
    elsewhere.push_back({.site = output_site(component),
                         .where = {.positions = {k}},
                         .edit = Put{context.values.at(component).control_resample}});
  }
  context.tell("running the controls", 0.0);
  made.effects.push_back(context.read(w, context.intervene(elsewhere, until), 0, name, "resample",
                                      fmt::format("t = {}", k)));
  for (const auto kind : kinds) {
    Random random = Random(context.options.seed).fork((kind == Ablation::mean ? 11 : 111) + w);
    std::vector<Intervention> noise;
    for (const auto component : set) {
      const auto& value = context.values.at(component);
      const at::Tensor& donor = kind == Ablation::mean ? value.mean : value.resample;
      noise.push_back({.site = output_site(component),
                       .where = {.positions = {0}},
                       .edit = Add{random_of_size(donor - value.own, random)}});
    }
    context.tell("running the controls", kind == Ablation::mean ? 0.3 : 0.6);
    made.effects.push_back(
        context.read(w, context.intervene(noise, until), 0, name,
                     fmt::format("random change of the {}'s size", to_string(kind)), "P0"));
    const Effect* edit = effect_of(report, name, to_string(kind));
    if (edit == nullptr) continue;
    Contrast beside = contrast(context, w, *edit, made.effects.back());
    beside.rung = "L4";
    beside.name = edit_name(name, to_string(kind));
    beside.control = same_size;
    made.contrasts.push_back(std::move(beside));
  }
  return made;
}

}  // namespace

at::Tensor random_of_size(const at::Tensor& rows, Random& random) {
  at::Tensor noise = at::empty(rows.sizes(), at::kDouble);
  auto* data = noise.data_ptr<double>();
  for (std::int64_t i = 0; i < noise.numel(); ++i) data[i] = random.normal();
  const at::Tensor wanted = rows.to(at::kCPU, at::kDouble).norm(2, -1, true);
  return (noise * (wanted / noise.norm(2, -1, true))).to(rows.options());
}

Contrast contrast(const at::Tensor& effect, const at::Tensor& by_control,
                  const P0Options& options) {
  Contrast beside{.effect = effect.mean().item<double>(),
                  .by_control = by_control.mean().item<double>()};
  beside.difference = bootstrap(effect - by_control, options.seed);
  beside.exceeds = beside.difference.low > 0.0 &&
                   beside.effect >= options.control_ratio * std::max(beside.by_control, 0.0);
  return beside;
}

Contrast contrast(const P0Context& context, std::size_t w, const Effect& effect,
                  const Effect& by_control) {
  const int last =
      static_cast<int>(std::min({effect.each.size(0), by_control.each.size(0),
                                 static_cast<std::int64_t>(context.waves[w].last) + 1}));
  const at::Tensor edit = removed_shares(context, w, effect, last);
  const at::Tensor control = removed_shares(context, w, by_control, last);
  const std::int64_t both = std::min(edit.size(0), control.size(0));
  return contrast(edit.narrow(0, 0, both), control.narrow(0, 0, both), context.options);
}

Necessity necessity_of(const P0Options& options, const WaveReport& report, const std::string& set) {
  Necessity best;
  double elsewhere = 0.0;
  for (const auto& control : report.controls) {
    if (control.name != set || control.where == "P0") continue;
    elsewhere = std::max(control.removed, 0.0);
    break;
  }
  for (const auto kind : kinds) {
    Necessity found{.effect = effect_of(report, set, to_string(kind)), .elsewhere = elsewhere};
    if (found.effect == nullptr) continue;
    for (const auto& beside : report.contrasts) {
      if (beside.rung == "L4" && beside.name == edit_name(set, to_string(kind)))
        found.contrast = &beside;
    }
    found.holds = found.effect->removed >= options.necessary && elsewhere < options.control &&
                  found.contrast != nullptr && found.contrast->exceeds;
    const bool better = best.effect == nullptr || (found.holds && !best.holds) ||
                        (found.holds == best.holds && found.effect->removed > best.effect->removed);
    if (better) best = found;
  }
  return best;
}

std::vector<Component> choose_by_controls(P0Context& context, std::size_t w,
                                          const std::vector<std::vector<Component>>& sets,
                                          WaveReport& report) {
  for (std::size_t i = 0; i < std::min(sets.size(), sets_tried); ++i) {
    Controls made = run_controls(context, w, sets[i], report);
    report.contrasts.insert(report.contrasts.end(), made.contrasts.begin(), made.contrasts.end());
    report.controls.insert(report.controls.end(), made.effects.begin(), made.effects.end());
    if (!necessity_of(context.options, report, to_string(sets[i])).holds) continue;
    const auto own = report.controls.end() - static_cast<std::ptrdiff_t>(made.effects.size());
    std::rotate(report.controls.begin(), own, report.controls.end());
    return sets[i];
  }
  return sets.front();
}

}  // namespace plumb
