#include "plumb/p0_catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "plumb/error.h"
#include "sink/p0_catalogue_runs.h"

namespace plumb {

namespace {

using namespace p0;

struct Experiment {
  P0Entry entry;
  void (*of_wave)(P0Bench&) = nullptr;
  void (*of_model)(const Model&, const SinkSurvey&, P0Experiment&) = nullptr;
};

Experiment of_wave(const char* id, const char* name, const char* summary, void (*run)(P0Bench&)) {
  return {.entry = {id, name, summary, true}, .of_wave = run};
}

Experiment of_model(const char* id, const char* name, const char* summary,
                    void (*run)(const Model&, const SinkSurvey&, P0Experiment&)) {
  return {.entry = {id, name, summary, false}, .of_model = run};
}

const std::vector<Experiment>& experiments() {
  static const std::vector<Experiment> all{
      of_model("A1", "sink_rate", "attention to position 0 by layer and head, and its rates",
               sink_rate),
      of_model("A2", "norm_profile", "length of the stream by half layer and position",
               norm_profile),
      of_model("A3", "direction_profile", "cosine of states to their mean over sequences",
               direction_profile),
      of_wave("A4", "attn0_norm", "length of what block 0's attention writes, by position",
              attn0_norm),
      of_wave("A5", "exact_head_removal", "block 0's hidden state without each head",
              exact_head_removal),
      of_wave("A6", "state_pca", "states before the wave in the plane of two components",
              state_pca),
      of_wave("A7", "channel_table", "channels by their size at position 0, five-number summaries",
              channel_table),
      of_wave("A8", "first_token_repeat", "loss when the first token is repeated",
              first_token_repeat),
      of_wave("A10", "cone", "concentration of attention, and the cone model against it", cone),
      of_wave("A11", "norm_sensitivity", "how far one change turns the normalised state",
              norm_sensitivity),
      of_wave("A12", "mean_attention_map", "mean attention by layer, query and key",
              mean_attention_map),
      of_wave("B1", "content_swap", "direction of another sequence or position at the own norm",
              content_swap),
      of_wave("B2", "norm_clamp", "norm clamped to the others' median, layer by layer", norm_clamp),
      of_wave("B3", "direction_removal", "sink direction projected out; mean state instead",
              direction_removal),
      of_wave("B4", "knockout", "components at position 0 by zero, mean and resample; pairs",
              knockout),
      of_wave("B5", "patch", "components and paths patched between a normal and a displaced run",
              patch_paths),
      of_wave("B6", "position_ids", "position ids moved, redrawn, exchanged", position_ids),
      of_wave("B7", "transplant", "position 0's state elsewhere, another's state at position 0",
              transplant),
      of_wave("B8", "variance_match", "spread of a0 amplified elsewhere, shrunk at position 0",
              variance_match),
      of_wave("B9", "value_ablation", "values without keys, keys without values", value_ablation),
      of_wave("B10", "mask_scan", "windows, bidirectional prefixes, no causal mask", mask_scan),
      of_wave("B11", "probe_identity", "what the state of position 0 says about its token",
              probe_identity),
      of_wave("B12", "cone_anisotropy", "dimensions that the values' residuals fill",
              cone_anisotropy),
      of_model("C1", "onset", "waves, onsets, steps of the norm", onset),
      of_wave("C2", "closed_system", "every token of the vocabulary at position 0", closed_system),
      of_model("C3", "three_signals", "norm, direction, variance and separability by half layer",
               three_signals),
      of_wave("C4", "ledger", "who writes the sink direction, to the neuron", ledger),
      of_wave("C5", "trigger_form", "the quadratic form of the writing MLPs", trigger_form),
      of_wave("C6", "qk_reading", "logits of position 0 taken apart; the bare direction's key",
              qk_reading),
      of_wave("C7", "mask_to_self", "another position that sees only itself, by layer set",
              mask_to_self),
      of_wave("C8", "deself", "values of other sequences mixed into position 0", deself),
      of_wave("C9", "factorial", "norm, direction and variance of a0 exchanged, 8 cells",
              factorial),
      of_wave("C10", "kv_transplant", "clean keys and values given back to a knocked-out run",
              kv_transplant),
      of_wave("C11", "repetition", "one token everywhere; the first token repeated", repetition),
      of_wave("C12", "nulls", "what the numbers would be by chance", nulls),
      of_model("C13", "front_depth", "how far from the input the sink begins", front_depth),
      of_wave("C14", "moe", "routing of position 0, its experts' writes, the top one ablated", moe),
      of_model("C15", "arch", "the decoder's switches, and the sink by kind of layer",
               architecture),
      of_wave("C16", "selection", "selective attention told from mixing", donor_pattern),
      of_wave("C17", "rivals", "where the sink went when its writers are cut", rivals)};
  return all;
}

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

const Experiment& find_experiment(const std::string& text) {
  const auto found = std::ranges::find_if(experiments(), [&](const Experiment& experiment) {
    return experiment.entry.id == text || experiment.entry.name == text;
  });
  if (found != experiments().end()) return *found;
  throw Error(
      ErrorKind::bad_argument,
      fmt::format("no experiment \"{:.40}\"; plumb p0 --list names them: A1 to C17, or \"all\"",
                  text));
}

std::string joined(const auto& range, auto name) {
  std::string text;
  for (const auto& item : range) {
    const std::string next = name(item);
    if (text.find(next) == std::string::npos) text += (text.empty() ? "" : "; ") + next;
  }
  return text;
}

}  // namespace

const std::vector<P0Entry>& p0_catalogue() {
  static const std::vector<P0Entry> entries = [] {
    std::vector<P0Entry> list;
    for (const auto& experiment : experiments()) list.push_back(experiment.entry);
    return list;
  }();
  return entries;
}

std::vector<std::string> parse_p0_identifiers(std::string_view text) {
  std::vector<std::string> identifiers;
  const auto add = [&](const std::string& id) {
    if (std::ranges::find(identifiers, id) == identifiers.end()) identifiers.push_back(id);
  };
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string part = trimmed(text.substr(at, end - at));
    at = end + 1;
    if (part == "all") {
      for (const auto& entry : p0_catalogue()) add(entry.id);
    } else {
      add(find_experiment(part).entry.id);
    }
  }
  return identifiers;
}

const P0Reading& P0Experiment::at(std::string_view which, std::string_view role) const {
  const auto found = std::ranges::find_if(readings, [&](const P0Reading& reading) {
    return reading.effect.name == which && reading.effect.kind == role;
  });
  if (found != readings.end()) return *found;
  throw Error(ErrorKind::bad_argument,
              fmt::format("{} has no reading \"{}\" ({}); there are: {}", id, which, role,
                          joined(readings, [](const P0Reading& r) { return r.effect.name; })));
}

const P0Array& P0Experiment::array(std::string_view which) const {
  const auto found = std::ranges::find(arrays, which, &P0Array::name);
  if (found != arrays.end()) return *found;
  throw Error(ErrorKind::bad_argument,
              fmt::format("{} has no array \"{}\"; there are: {}", id, which,
                          joined(arrays, [](const P0Array& a) { return a.name; })));
}

P0Experiments run_p0_experiments(const Model& model, const P0Inputs& inputs,
                                 const std::vector<std::string>& identifiers,
                                 const P0Options& options, const Progress& progress) {
  check(options, model);
  if (inputs.plain.tokens.batch() < 2 || inputs.plain.length() < 8) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("experiments on the sink need at least 2 sequences of 8 tokens, got {} "
                            "of {}; give more or longer texts",
                            inputs.plain.tokens.batch(), inputs.plain.length()));
  }
  std::vector<const Experiment*> chosen;
  for (const auto& id : identifiers) chosen.push_back(&find_experiment(id));
  const auto start = std::chrono::steady_clock::now();
  P0Experiments result{.options = options};
  result.survey = survey_sink(model, inputs.plain, options.sink, progress);
  result.evaluations = result.survey.evaluations;
  const auto& waves = result.survey.waves;
  std::optional<P0Context> context;
  const bool interventions =
      std::ranges::any_of(chosen, [](const Experiment* e) { return e->of_wave != nullptr; });
  if (!waves.empty() && interventions)
    context.emplace(model, inputs.plain, options, waves, result.survey, progress);
  for (const Experiment* experiment : chosen) {
    P0Experiment made{.id = experiment->entry.id, .name = experiment->entry.name};
    if (experiment->of_model != nullptr) {
      experiment->of_model(model, result.survey, made);
      result.experiments.push_back(std::move(made));
      continue;
    }
    if (!context) {
      made.not_run = "no layer reaches the wave threshold at position 0: there is no sink to edit";
      result.experiments.push_back(std::move(made));
      continue;
    }
    for (std::size_t w = 0; w < waves.size(); ++w) {
      P0Experiment one = made;
      one.wave = static_cast<int>(w);
      P0Bench bench(*context, w, one);
      experiment->of_wave(bench);
      // A runner that finds it has nothing to edit says so in its first sentence.
      constexpr std::string_view mark = "not run: ";
      if (one.readings.empty() && one.arrays.empty() && !one.findings.empty() &&
          one.findings.front().starts_with(mark)) {
        one.not_run = one.findings.front().substr(mark.size());
        one.findings.clear();
      }
      result.experiments.push_back(std::move(one));
    }
  }
  if (context) result.evaluations += context->evaluations;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace plumb
