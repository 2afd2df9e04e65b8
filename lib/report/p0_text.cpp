// The report of `plumb p0`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "plumb/report_text.h"
#include "report/p0_tables.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

std::string verdict_part(const P0Report& found) {
  if (!found.complete) {
    return "\nVERDICT: not reached\n" +
           wrap(
               "The job ended early. What follows was found by then; a part that is missing, or a "
               "table that is short, was not measured, and nothing follows from its absence.",
               2, 2);
  }
  std::string text = fmt::format("\nVERDICT: {}\n", to_string(found.verdict));
  if (found.waves.empty()) {
    text += "  No layer draws its attention to position 0: there is no sink to explain here.\n";
  }
  for (const WaveReport& wave : found.waves) text += wrap(wave_sentence(wave), 2, 4);
  return text;
}

std::string vocabulary_part(const WaveReport& wave, const Tokenizer* tokenizer) {
  const std::string share = wave.vocabulary_share < 0.99
                                ? show_share(wave.vocabulary_share)
                                : fmt::format("{:.2f} %", 100.0 * wave.vocabulary_share);
  const std::string norms =
      fmt::format("norms at percentiles 1, 50, 99: {}, {}, {}", show_norm(wave.vocabulary_norm[0]),
                  show_norm(wave.vocabulary_norm[1]), show_norm(wave.vocabulary_norm[2]));
  const bool spikes = wave.clean.norm.mean > wave.spike_norm;
  std::string text =
      spikes
          ? wrap(fmt::format("Every token of the vocabulary as a sequence of length 1: {} reach "
                             "the spike's norm of {}; {}.",
                             share, show_norm(wave.spike_norm), norms))
          : wrap(fmt::format("Position 0 does not spike ({}; a spike would have {}). Put first in "
                             "the sequences, {} of the vocabulary draw at least half of the sink.",
                             norms, show_norm(wave.spike_norm), share));
  if (!wave.vocabulary_exceptions.empty()) {
    std::vector<std::string> tokens;
    for (const std::int64_t id : wave.vocabulary_exceptions) {
      tokens.push_back(show_token(id, tokenizer));
    }
    text += wrap("Weakest tokens: " + list_of(tokens));
  }
  return text;
}

// A table under its sentence; nothing if there are no rows.
std::string part(const std::string& sentence, const std::string& table) {
  return table.empty() ? "" : "\n" + wrap(sentence) + table;
}

std::string wave_part(const WaveReport& wave, std::size_t number, const Tokenizer* tokenizer) {
  const std::string at = std::to_string(wave.wave.onset);
  std::string text =
      heading(fmt::format("Wave {}: {}, {}", number, show_layers(wave.wave.onset, wave.wave.last),
                          wave.ladder.empty() ? "not judged" : to_string(wave.verdict)));
  if (!wave.ladder.empty()) text += wrap(wave_sentence(wave), 2, 2);
  text += part(
      "The ladder: each rung a claim with its number, what it would be by chance, its 95 % "
      "interval.",
      ladder_table(wave.ladder));
  text += part(
      fmt::format("Who writes it: parts of position 0's state entering layer {} along the sink's "
                  "direction (total {}; the parts sum to it within {:.1e}).",
                  at, show_norm(wave.ledger.total), wave.ledger.closing_error),
      ledger_table(wave.ledger.components, wave.ledger.total));
  text += part("Heads among them:", ledger_table(wave.ledger.heads, wave.ledger.total));
  text += part("Leading neurons:", ledger_table(wave.ledger.neurons, wave.ledger.total));
  text += part("What takes it away again (negative), in the wave's own and the next layers:",
               ledger_table(wave.ledger.erasers, wave.ledger.total));
  text +=
      part(fmt::format(
               "Knock-outs: a component's output at position 0 replaced. For each kind the share "
               "of the sink removed (above what uniform attention gives) / the norm entering "
               "layer {}; clean: sink {}, norm {}.",
               at, show_estimate(wave.clean.value), show_norm(wave.clean.norm.mean)),
           knockout_table(wave.knockouts));
  text += part("Pairs and larger sets:", effect_table(wave.sets));
  text += part("Controls: the same edit at another position, and random edits of the same size:",
               effect_table(wave.controls));
  text += part(
      "Beside their controls: shares, in the layers or of the projection that both were read in; "
      "the "
      "difference paired by sequence.",
      contrast_table(wave.contrasts));
  text += part("Is it enough? Another position made to attend only to itself, in these layers:",
               self_mask_table(wave.self_masks));
  if (!wave.self_masks.empty()) {
    text += wave.smallest_mask.empty() ? "  No layer set tried was enough.\n"
                                       : fmt::format("  Smallest set that is enough: {{{}}}\n",
                                                     fmt::join(wave.smallest_mask, ", "));
  }
  text +=
      part("A run in which the token stands behind a prefix, with parts of position 0 pasted in:",
           effect_table(wave.restored, Naming::by_name));
  text += part("Norm or direction? Edits of position 0's whole state:",
               effect_table(wave.state, Naming::by_name));
  text +=
      part("What the first blocks tell position 0:", effect_table(wave.signal, Naming::by_name));
  if (wave.graph.edges > 0) {
    text += "\n" + graph_words(wave);
    text += part(
        "Its paths, in the order of the forward pass, each cut alone in the full model "
        "(the reader gets the sender's mean over t > 0):",
        effect_table(wave.paths, Naming::by_name));
  }
  text += part("What the sink is used for:", effect_table(wave.use, Naming::by_name));
  for (const std::string& sentence : wave.dependence) text += "\n" + wrap(sentence);
  text += part("Edits behind that:", effect_table(wave.dependence_effects));
  return text + "\n" + vocabulary_part(wave, tokenizer);
}

}  // namespace

std::string p0_text(const RunInfo& run, const P0Report& found, const Tokenizer* tokenizer) {
  std::string text = show_run(run, found.surveys.empty() ? nullptr : &found.surveys.front());
  text += verdict_part(found);
  for (std::size_t i = 0; i < found.surveys.size(); ++i) {
    const SinkSurvey& survey = found.surveys[i];
    text += heading("Sink at position 0: " + show_inputs(survey));
    if (i == 0) text += layer_table(survey) + "\n";
    text += survey_notes(survey, tokenizer);
  }
  if (found.complete) {
    text +=
        fmt::format("\n  All positions moved by 100: no head's sink changes by more than {:.1e}.\n",
                    found.position_shift_change);
  }
  for (std::size_t i = 0; i < found.waves.size(); ++i) {
    text += wave_part(found.waves[i], i + 1, tokenizer);
  }
  if (!found.notes.empty()) {
    text += heading("Notes");
    for (const std::string& note : found.notes) text += wrap("- " + note, 2, 4);
  }
  const std::string costs = cost_table(found.costs);
  if (!costs.empty()) text += heading("What each rung cost") + costs;
  return text + show_end(run, found.evaluations);
}

}  // namespace plumb
