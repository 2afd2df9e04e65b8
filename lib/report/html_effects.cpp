// Knock-outs, sufficiency and the other interventions, as tables with intervals.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/text_pieces.h"

namespace plumb::report {
namespace {

constexpr std::size_t most_waves = 12;
constexpr double plot_width = 150.0;
constexpr double shown_share = 0.01;  // of the total, from which a part of the ledger has a row

// A mean and its interval on a scale of 0 to `most`, with marks for chance and for the clean run.
std::string whisker(const Estimate& value, double clean, double null, double most) {
  if (!std::isfinite(value.mean) || !(most > 0)) return "";
  const auto x = [&](double at) { return plot_width * std::clamp(at / most, 0.0, 1.0); };
  std::string text = fmt::format(
      "<svg class=\"whisker\" width=\"{0:.0f}\" height=\"14\" viewBox=\"0 0 {0:.0f} 14\" "
      "aria-hidden=\"true\"><path class=\"axis\" d=\"M0 7H{0:.0f}\"/>",
      plot_width);
  if (std::isfinite(null))
    text += fmt::format("<path class=\"null\" d=\"M{:.1f} 0V14\"/>", x(null));
  if (std::isfinite(clean))
    text += fmt::format("<path class=\"clean\" d=\"M{:.1f} 0V14\"/>", x(clean));
  if (std::isfinite(value.low) && std::isfinite(value.high))
    text +=
        fmt::format("<path class=\"span\" d=\"M{:.1f} 7H{:.1f}\"/>", x(value.low), x(value.high));
  return text + fmt::format("<circle cx=\"{:.1f}\" cy=\"7\" r=\"3\"/></svg>", x(value.mean));
}

std::string change_of(const Effect& effect) {
  if (!effect.loss_change) return "";
  return show_change(effect.loss_change->mean) + " " +
         show_interval(effect.loss_change->low, effect.loss_change->high);
}

// Shares of a sink that is not there to begin with mean nothing.
std::string removed_of(double removed) {
  constexpr double sense = 5.0;
  return std::abs(removed) <= sense ? show_share(removed) : "-";
}

std::string norm_of(const Estimate& norm) {
  std::string text = show_norm(norm.mean);
  if (std::isfinite(norm.low) && std::isfinite(norm.high))
    text += fmt::format(" [{}, {}]", show_norm(norm.low), show_norm(norm.high));
  return text;
}

double largest(const std::vector<Effect>& effects, double clean) {
  double most = std::isfinite(clean) ? clean : 0.0;
  for (const Effect& effect : effects) {
    for (const double value : {effect.value.mean, effect.value.high})
      if (std::isfinite(value)) most = std::max(most, value);
  }
  return 1.05 * most;
}

bool unchanged(const Effect& effect) { return effect.outcome == "kept"; }

std::string effect_rows(const WaveReport& wave, const std::vector<Effect>& effects, double null,
                        RowBudget& budget) {
  const bool losses = std::ranges::any_of(
      effects, [](const Effect& effect) { return effect.loss_change.has_value(); });
  std::vector<std::string> titles = {"<what",
                                     "<edit",
                                     "<where",
                                     "<sink",
                                     "sink, 95 % interval",
                                     "removed",
                                     "norm at onset, 95 % interval"};
  if (losses) titles.emplace_back("loss change, nats");
  titles.emplace_back("<outcome");
  const double most = largest(effects, wave.clean.value.mean);
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> classes;
  for (const Effect& effect : effects) {
    std::vector<std::string> row = {
        html(effect.name, 200),      html(effect.kind, 100),
        html(effect.where, 60),      whisker(effect.value, wave.clean.value.mean, null, most),
        show_estimate(effect.value), removed_of(effect.removed),
        norm_of(effect.norm)};
    if (losses) row.push_back(change_of(effect));
    row.push_back(html(effect.outcome, 100));
    rows.push_back(std::move(row));
    classes.emplace_back(unchanged(effect) ? "kept" : "");
  }
  return html_table(titles, rows, budget, classes);
}

std::string knockouts(const WaveReport& wave, std::size_t number, double null, RowBudget& budget) {
  if (wave.knockouts.empty()) return absent("No component was knocked out for this wave.");
  const auto kept = std::ranges::count_if(wave.knockouts, unchanged);
  // Without style sheets the box does nothing and all rows show.
  const bool fold = kept > 12;
  std::string text =
      "<details open><summary>Knock-outs: a component's output at position 0 replaced</summary>\n";
  if (fold) {
    text += fmt::format(
        "<input type=\"checkbox\" class=\"fold\" id=\"all-{0}\"><label "
        "for=\"all-{0}\">Show the {1} edits that kept the sink as well</label>\n",
        number, kept);
  }
  return text + effect_rows(wave, wave.knockouts, null, budget) + "</details>\n";
}

std::string self_masks(const WaveReport& wave, double null, RowBudget& budget) {
  if (wave.self_masks.empty()) return "";
  double most = std::isfinite(wave.clean.value.mean) ? wave.clean.value.mean : 0.0;
  for (const SelfMask& mask : wave.self_masks)
    if (std::isfinite(mask.sink.high)) most = std::max(most, mask.sink.high);
  std::vector<std::vector<std::string>> rows;
  for (const SelfMask& mask : wave.self_masks) {
    rows.push_back({html(fmt::format("{{{}}}", fmt::join(mask.layers, ", ")), 200),
                    whisker(mask.sink, wave.clean.value.mean, null, 1.05 * most),
                    show_estimate(mask.sink), norm_of(mask.norm), show_share(mask.spiking),
                    mask.sufficient ? "<b>yes</b>" : "no"});
  }
  std::string text =
      "<details open><summary>Is it enough? Another position made to attend only to itself, in "
      "these "
      "layers</summary>\n" +
      html_table({"<layers", "<sink there", "sink, 95 % interval", "norm at onset, 95 % interval",
                  "spiking", "<enough"},
                 rows, budget);
  text += wave.smallest_mask.empty()
              ? "<p>No layer set tried was found to be the smallest that is enough.</p>\n"
              : fmt::format("<p>Smallest set that is enough: {{{}}}</p>\n",
                            fmt::join(wave.smallest_mask, ", "));
  return text + "</details>\n";
}

std::string ledger(const WaveReport& wave, RowBudget& budget) {
  const double total = wave.ledger.total;
  if (wave.ledger.components.empty()) return absent("The ledger of writers is not in the archive.");
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const std::vector<LedgerRow>& list, const char* what) {
    for (const LedgerRow& row : list) {
      if (!(std::abs(row.p0) >= shown_share * std::abs(total))) continue;
      rows.push_back({html(row.name, 100), what, show_norm(row.p0), show_share(row.p0 / total),
                      show_norm(row.others)});
    }
  };
  add(wave.ledger.components, "component");
  add(wave.ledger.heads, "head");
  add(wave.ledger.neurons, "neuron");
  add(wave.ledger.erasers, "eraser");
  return fmt::format(
      "<details open><summary>Who writes it: parts of position 0's state entering layer {} along "
      "the "
      "sink's direction</summary>\n<p>The total is {}; the components sum to it within {:.1e}. "
      "Parts "
      "under {:.0f} % are left out here.</p>\n{}</details>\n",
      wave.wave.onset, show_norm(total), wave.ledger.closing_error, 100 * shown_share,
      html_table({"<part", "<kind", "at P0", "share", "at t > 0"}, rows, budget));
}

std::string vocabulary(const ArchiveView& view, const WaveReport& wave) {
  if (!std::isfinite(wave.vocabulary_share)) return "";
  std::string text = fmt::format(
      "<p>Of the vocabulary's tokens, {} spike at position 0 or, where position 0 does not spike, "
      "draw the sink there (a spike has a norm above {}).",
      show_share(wave.vocabulary_share), show_norm(wave.spike_norm));
  if (!wave.vocabulary_exceptions.empty()) {
    text += " Weakest tokens: ";
    for (std::size_t i = 0; i < std::min<std::size_t>(wave.vocabulary_exceptions.size(), 40); ++i)
      text += (i == 0 ? "" : ", ") + token_html(view, wave.vocabulary_exceptions[i]);
    text += ".";
  }
  return text + "</p>\n";
}

std::string contrasts(const WaveReport& wave, RowBudget& budget) {
  if (wave.contrasts.empty()) return "";
  std::vector<std::vector<std::string>> rows;
  for (const Contrast& beside : wave.contrasts) {
    rows.push_back({html(beside.rung, 20), html(beside.name, 200), show_share(beside.effect),
                    html(beside.control, 100), show_share(beside.by_control),
                    show_estimate(beside.difference), beside.exceeds ? "<b>yes</b>" : "no"});
  }
  return "<details open><summary>Effects beside their controls, in what both were read in; the "
         "difference paired by sequence</summary>\n" +
         html_table({"<rung", "<what", "effect", "<control", "its effect",
                     "difference, 95 % interval", "<beyond it"},
                    rows, budget) +
         "</details>\n";
}

}  // namespace

std::string folded_effects(const WaveReport& wave, const std::string& title,
                           const std::vector<Effect>& effects, double null, bool open,
                           RowBudget& budget) {
  if (effects.empty()) return "";
  return fmt::format("<details{}><summary>{}</summary>\n{}</details>\n", open ? " open" : "",
                     html(title), effect_rows(wave, effects, null, budget));
}

std::string effects_section(const ArchiveView& view, RowBudget& budget) {
  const char* title = "Knock-outs, sufficiency and controls";
  if (view.waves.empty()) {
    return section("effects", title,
                   absent(view.located ? "There is no wave, so nothing was cut or rebuilt."
                                       : "plumb sink cuts nothing; plumb p0 does."));
  }
  const double null = view.surveys.empty() ? std::nan("") : view.surveys.front().second.null;
  std::string body =
      "<p class=\"key\">In the plots a dot is the mean sink after the edit, the bar its 95 % "
      "bootstrap "
      "interval over sequences; the dashed line is chance, the solid line the unedited run. "
      "“Removed” is "
      "(unedited − edited) / (unedited − chance).</p>\n";
  for (std::size_t i = 0; i < std::min(view.waves.size(), most_waves); ++i) {
    const WaveReport& wave = view.waves[i].found;
    const auto table = [&](const std::string& words, const std::vector<Effect>& effects,
                           bool open = false) {
      return folded_effects(wave, words, effects, null, open, budget);
    };
    body +=
        fmt::format("<h3>Wave {}: {}</h3>\n", i + 1, show_layers(wave.wave.onset, wave.wave.last));
    body += fmt::format("<p>Unedited: sink {}, norm entering layer {} {}.</p>\n",
                        show_estimate(wave.clean.value), wave.wave.onset, norm_of(wave.clean.norm));
    body += ledger(wave, budget) + knockouts(wave, i + 1, null, budget);
    body += self_masks(wave, null, budget);
    body +=
        table("A run in which the token stands behind a prefix, with parts of position 0 pasted in",
              wave.restored, true);
    body += table("Pairs and larger sets", wave.sets);
    body += table("Controls: the same edit at another position, random edits of the same size",
                  wave.controls, true);
    body += contrasts(wave, budget);
    body += table("Norm or direction? Edits of position 0's whole state", wave.state);
    body += table("What the first blocks tell position 0", wave.signal);
    body += table("What the sink is used for", wave.use);
    for (std::size_t k = 0; k < std::min<std::size_t>(wave.dependence.size(), 50); ++k)
      body += fmt::format("<p>{}</p>\n", html(wave.dependence[k], 2000));
    body += table("Edits behind the dependence on earlier waves", wave.dependence_effects);
    body += vocabulary(view, wave);
  }
  return section("effects", title, body);
}

}  // namespace plumb::report
