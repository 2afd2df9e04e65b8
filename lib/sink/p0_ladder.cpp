#include "sink/p0_ladder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "plumb/metrics.h"
#include "sink/p0_contrast.h"
#include "sink/p0_vocabulary.h"

namespace plumb {

namespace {

constexpr double closes = 1e-3;  // relative error of a closed ledger in float32

Estimate wave_sink(const SinkSurvey& survey, const Wave& wave) {
  return bootstrap(
      survey.sink.narrow(1, wave.onset, wave.last - wave.onset + 1).mean(c10::IntArrayRef{1, 2}));
}

Rung rung(std::string level, std::string name, std::string claim, const Estimate& value,
          double null, Holds holds) {
  return {std::move(level),
          std::move(name),
          std::move(claim),
          value.mean,
          null,
          value.low,
          value.high,
          holds};
}

Holds holds_if(bool condition) { return condition ? Holds::yes : Holds::no; }

Rung present(const LadderEvidence& evidence, const Wave& wave) {
  const Estimate text = wave_sink(*evidence.plain, wave);
  std::string claim =
      fmt::format("mean sink over layers {}-{} on {}", wave.onset, wave.last,
                  evidence.plain->inputs_kind == "text" ? "natural text" : "the given tokens");
  bool holds = text.low > 2.0 * evidence.plain->null;
  if (evidence.random != nullptr) {
    const Estimate random = wave_sink(*evidence.random, wave);
    claim += fmt::format("; on random tokens {:.3f}", random.mean);
    holds = holds && random.low > 2.0 * evidence.random->null;
  }
  return rung("L1", "present", claim, text, evidence.plain->null, holds_if(holds));
}

Rung positional(const P0Context& context, std::size_t w, const LadderEvidence& evidence,
                const WaveReport& report) {
  const bool spikes = context.spikes(w);
  const Estimate share =
      wilson(report.vocabulary_share, static_cast<double>(vocabulary_tried(context, w)));
  std::string claim =
      spikes
          ? fmt::format(
                "share of the vocabulary that spikes at position 0 without BOS (norm above {:.0f})",
                report.spike_norm)
          : std::string(
                "share of the vocabulary that draws at least half of the sink when put first; "
                "there is no spike of the norm to tell it by");
  bool holds = report.vocabulary_share >= context.options.vocabulary;
  if (evidence.shift_tested) {
    claim += fmt::format("; all position ids + 100 change a head's sink by at most {:.1e}",
                         evidence.position_shift_change);
    holds = holds && evidence.position_shift_change < context.options.shift;
  }
  return rung("L2", "positional", claim, share, 0.0, holds_if(holds));
}

Rung located(const P0Context& context, std::size_t w, const LadderEvidence& evidence,
             const WaveReport& report) {
  double covered = 0.0;
  for (const auto& row : report.ledger.components) {
    const bool named =
        row.name == "input" || std::ranges::find(report.writers, row.name) != report.writers.end();
    if (named) covered += row.p0 / report.ledger.total;
  }
  std::string claim = fmt::format("share of the projection on the sink direction that {} write",
                                  fmt::join(report.writers, ", "));
  bool holds = covered >= context.options.located && report.ledger.closing_error < closes;
  if (evidence.plain->separability.defined() && !report.writers.empty()) {
    std::int64_t identified = 0;
    while (identified < evidence.plain->separability.size(0) &&
           evidence.plain->separability[identified].item<double>() <= context.options.separable) {
      ++identified;
    }
    const int first_writer = std::stoi(report.writers.front().substr(1));
    const std::int64_t written = 2 * first_writer + (report.writers.front()[0] == 'm' ? 1 : 0);
    claim += fmt::format("; a linear detector tells position 0 apart from stream {:.1f} on",
                         static_cast<double>(identified) / 2.0);
    // Without a spike nothing is amplified: what writes the direction is what identifies.
    holds = holds && (identified <= written || !context.spikes(w));
  }
  return rung("L3", "located", claim, {covered, covered, covered}, 0.0, holds_if(holds));
}

// The interval of a removed share from the interval of the sink that is left.
Estimate removed_interval(const Effect& effect, double base, double null) {
  const double excess = std::max(base - null, 1e-9);
  return {effect.removed, (base - effect.value.high) / excess, (base - effect.value.low) / excess};
}

// Says so where a control does too much of what is claimed.
std::string too_little_beyond(const Contrast& beside, const P0Options& options) {
  if (beside.exceeds) return "";
  return beside.difference.low > 0.0
             ? fmt::format(", more than 1/{:g} of it: not enough beyond chance",
                           options.control_ratio)
             : std::string(", no less within the interval: not beyond chance");
}

Rung necessary(const P0Context& context, const WaveReport& report) {
  if (report.controls.empty())
    return rung("L4", "necessary", "no component lies before the onset", {}, 0.0, Holds::untested);
  const Necessity found = necessity_of(context.options, report, report.controls.front().name);
  if (found.effect == nullptr || found.contrast == nullptr)
    return rung("L4", "necessary", "no knock-out was read", {}, 0.0, Holds::untested);
  const Estimate value =
      removed_interval(*found.effect, report.clean.value.mean, context.null_at(0));
  const std::string claim = fmt::format(
      "share of the excess that {} by {} at position 0 removes ({}); the same at {} removes {:.1f} "
      "%, a random change of that size {:.0f} %{}",
      found.effect->name, found.effect->kind, found.effect->outcome, report.controls.front().where,
      100 * found.elsewhere, 100 * found.contrast->by_control,
      too_little_beyond(*found.contrast, context.options));
  return rung("L4", "necessary", claim, value,
              std::max(found.elsewhere, found.contrast->by_control), holds_if(found.holds));
}

Rung sufficient(const P0Context& context, const WaveReport& report) {
  if (report.self_masks.empty())
    return rung("L5", "sufficient", "the wave starts at layer 0: nothing to mask before it", {},
                0.0, Holds::untested);
  const SelfMask* found = nullptr;
  for (const auto& mask : report.self_masks) {
    if (!mask.layers.empty() && mask.layers == report.smallest_mask) found = &mask;
  }
  if (found == nullptr) found = &report.self_masks.at(1);
  const std::string claim = fmt::format(
      "sink made at position {} by letting it see only itself in {} {}; it spikes there in {:.0f} "
      "% of sequences",
      context.control_position(), found->layers.size() == 1 ? "block" : "blocks",
      fmt::join(found->layers, ","), 100 * found->spiking);
  return rung("L5", "sufficient", claim, found->sink, report.self_masks.front().sink.mean,
              holds_if(found->sufficient));
}

Rung ordered(const P0Options& options, const LadderEvidence& evidence, const WaveReport& report) {
  if (!evidence.graph.recovered.defined() || evidence.graph.largest_edge.empty()) {
    return rung("L6", "ordered", "no path between components was found", {}, 0.0,
                evidence.graph.recovered.defined() ? Holds::no : Holds::untested);
  }
  const Estimate recovered = bootstrap(evidence.graph.recovered, options.seed);
  std::string claim = "share of the projection recovered by the graph's paths alone";
  bool holds = recovered.mean >= options.recovered && evidence.graph.largest_cut >= options.link;
  double null = 0.0;
  const Contrast* link = nullptr;
  for (const auto& beside : report.contrasts) {
    if (beside.rung != "L6") continue;
    if (beside.name.ends_with(" cut")) {
      if (link == nullptr || (!link->exceeds && beside.exceeds)) link = &beside;
      continue;
    }
    holds = holds && beside.exceeds;
    null = beside.by_control;
    claim += fmt::format("; as many random paths keep {:.0f} %{}", 100 * null,
                         too_little_beyond(beside, options));
  }
  if (link != nullptr) {
    holds = holds && link->exceeds && link->effect >= options.link;
    claim +=
        fmt::format("; {} loses {:.0f} %, a random change of that size {:.0f} %{}", link->name,
                    100 * link->effect, 100 * link->by_control, too_little_beyond(*link, options));
  }
  return rung("L6", "ordered", claim, recovered, null, holds_if(holds));
}

Rung signal(const P0Context& context, const WaveReport& report) {
  if (report.signal.size() < 5)
    return rung("L7", "signal named", "not tested for this wave", {}, 0.0, Holds::untested);
  const auto& mixed = report.signal[0];
  const auto& selected = report.signal[1];
  const auto& noise = report.signal[2];
  const double signal_needed = context.options.signal;
  const double signal_margin = context.options.signal_margin;
  const bool selection = selected.removed >= signal_needed &&
                         selected.removed >= noise.removed + signal_margin &&
                         selected.removed >= mixed.removed + signal_margin;
  const bool mixing =
      mixed.removed >= signal_needed && mixed.removed >= noise.removed + signal_margin;
  const std::string name = selection ? "the mark is the absence of what selective attention writes"
                           : mixing  ? "the mark is the unmixed attention output"
                                     : "no single signal found";
  return rung("L7", "signal named",
              fmt::format("{}: share removed by adding what selection writes at t > 0; uniform "
                          "mixing removes {:.0f} %, a random vector {:.0f} %",
                          name, 100 * mixed.removed, 100 * noise.removed),
              removed_interval(selected, report.clean.value.mean, context.null_at(0)),
              noise.removed, holds_if(selection || mixing));
}

Rung used(const WaveReport& report) {
  const Effect* best = nullptr;
  for (const auto* effects : {&report.knockouts, &report.sets}) {
    for (const auto& effect : *effects) {
      const bool chosen = !report.controls.empty() && effect.name == report.controls.front().name;
      if (chosen && effect.loss_change && effect.kind == "mean") best = &effect;
    }
  }
  if (best == nullptr) return rung("L8", "used", "the loss was not read", {}, 0.0, Holds::untested);
  std::string claim =
      fmt::format("loss in nats per token that the knock-out of {} costs", best->name);
  for (const auto& effect : report.use) {
    if (effect.loss_change)
      claim += fmt::format("; {}: {:+.3f}", effect.name, effect.loss_change->mean);
  }
  return rung("L8", "used", claim, *best->loss_change, 0.0, holds_if(best->loss_change->low > 0.0));
}

Verdict decide(const P0Context& context, const LadderEvidence& evidence, const WaveReport& report) {
  const auto holds = [&](std::string_view level) {
    const auto found = std::ranges::find(report.ladder, level, &Rung::level);
    return found != report.ladder.end() && found->holds == Holds::yes;
  };
  if (!holds("L1")) {
    const bool elsewhere = !report.clean.other_sink.empty() &&
                           report.clean.other_sink[static_cast<std::size_t>(report.wave.peak)] >
                               context.options.sink.wave_threshold;
    return elsewhere ? Verdict::secondary : Verdict::none;
  }
  if (evidence.learned_position_share >= context.options.learned) return Verdict::learned_position;
  if (holds("L2") && (holds("L5") || holds("L4"))) return Verdict::positional;
  return report.vocabulary_share < 0.5 ? Verdict::token : Verdict::positional;
}

}  // namespace

Estimate wilson(double share, double count) {
  constexpr double z = 1.959964;
  const double centre = (share + z * z / (2 * count)) / (1 + z * z / count);
  const double half = z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count)) /
                      (1 + z * z / count);
  return {share, centre - half, centre + half};
}

void climb(const P0Context& context, std::size_t w, const LadderEvidence& evidence,
           WaveReport& report) {
  report.ladder = {present(evidence, report.wave),
                   positional(context, w, evidence, report),
                   located(context, w, evidence, report),
                   necessary(context, report),
                   sufficient(context, report),
                   ordered(context.options, evidence, report),
                   signal(context, report),
                   used(report),
                   rung("L9", "general", "one model, one checkpoint: run other models and seeds",
                        {}, 0.0, Holds::untested)};
  report.verdict = decide(context, evidence, report);
}

void climb_token_route(const SinkSurvey& native, const SinkSurvey& plain, WaveReport& report) {
  const Estimate with = wave_sink(native, report.wave);
  const Estimate without = wave_sink(plain, report.wave);
  report.ladder.push_back(
      rung("L1", "present",
           fmt::format("mean sink over layers {}-{} with BOS; without it {:.3f}", report.wave.onset,
                       report.wave.last, without.mean),
           with, native.null, holds_if(with.low > 2.0 * native.null)));
  report.ladder.push_back(
      rung("L2", "positional", "the same without BOS", without, plain.null, Holds::no));
  const std::pair<const char*, const char*> rest[] = {
      {"L3", "located"},      {"L4", "necessary"}, {"L5", "sufficient"}, {"L6", "ordered"},
      {"L7", "signal named"}, {"L8", "used"},      {"L9", "general"}};
  for (const auto& [level, name] : rest) {
    report.ladder.push_back(rung(level, name,
                                 "not climbed for a sink that only the BOS token makes", {}, 0.0,
                                 Holds::untested));
  }
  report.verdict = Verdict::token;
}

}  // namespace plumb
