// The sink of every head, the stream's profiles and the attention of single heads: what the page's
// script draws, and the same numbers as tables.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/text_pieces.h"

namespace plumb::report {
namespace {

constexpr std::int64_t most_cells = 150'000;  // of all maps together
constexpr std::int64_t most_layers = 1000;    // of a profile
constexpr std::size_t most_maps = 900;        // of attention
constexpr std::int64_t most_positions = 40;

// Which surveys are drawn: in order, as long as their cells fit.
std::size_t drawn(const ArchiveView& view) {
  std::int64_t cells = 0;
  for (std::size_t i = 0; i < view.surveys.size(); ++i) {
    const at::Tensor& mean = view.surveys[i].second.mean;
    if (!mean.defined() || mean.size(0) > most_layers) return i;
    cells += mean.numel();
    if (cells > most_cells) return i;
  }
  return view.surveys.size();
}

double value_at(const at::Tensor& values, std::int64_t index) {
  return values.defined() && index < values.numel() ? values.data_ptr<double>()[index]
                                                    : std::nan("");
}

// Thousandths; -1 where it is no number.
Json thousandths(const at::Tensor& values) {
  Json list = Json::array();
  for (std::int64_t i = 0; values.defined() && i < values.numel(); ++i) {
    const double value = values.data_ptr<double>()[i];
    list.push_back(std::isfinite(value) ? std::lround(1000.0 * std::clamp(value, 0.0, 1.0)) : -1);
  }
  return list;
}

// Five significant digits; null where it is no number.
Json rounded(const at::Tensor& values) {
  if (!values.defined()) return nullptr;
  Json list = Json::array();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double value = values.data_ptr<double>()[i];
    if (std::isfinite(value)) {
      list.push_back(std::stod(fmt::format("{:.5g}", value)));
    } else {
      list.push_back(nullptr);
    }
  }
  return list;
}

std::string layer_rows(const SinkSurvey& survey, RowBudget& budget) {
  std::vector<std::vector<std::string>> rows;
  const std::int64_t layers = survey.mean.size(0);
  for (std::int64_t l = 0; l < layers; ++l) {
    rows.push_back({std::to_string(l), show_value(value_at(survey.layer_mean, l)),
                    show_share(value_at(survey.rate, l)),
                    show_norm(value_at(survey.p0_norm, 2 * l)),
                    show_norm(value_at(survey.median_norm, 2 * l)),
                    show_value(value_at(survey.p0_cosine, 2 * l)),
                    show_value(value_at(survey.separability, 2 * l))});
  }
  return html_table(
      {"layer", "mean sink", "heads above", "norm P0", "norm t > 0", "cosine", "told apart"}, rows,
      budget);
}

std::string steps_sentence(const SinkSurvey& survey, bool up) {
  std::vector<std::string> parts;
  for (const Step& step : survey.steps) {
    if ((step.ratio > step.median_ratio) != up) continue;
    parts.push_back(fmt::format("{} ×{:.3g} (median position ×{:.3g})", step.site, step.ratio,
                                step.median_ratio));
  }
  return parts.empty() ? "nowhere" : list_of(parts);
}

std::string facts_of(const ArchiveView& view, const SinkSurvey& survey) {
  std::string text = "<ul>\n";
  for (std::size_t i = 0; i < std::min<std::size_t>(survey.waves.size(), 50); ++i) {
    const Wave& wave = survey.waves[i];
    text += fmt::format("<li>Wave {}: {}, mean sink {}, peak at layer {}</li>\n", i + 1,
                        show_layers(wave.onset, wave.last), show_value(wave.mean), wave.peak);
  }
  if (survey.waves.empty())
    text += "<li>No wave: no layer's mean sink reaches the threshold.</li>\n";
  for (std::size_t i = 0; i < std::min<std::size_t>(survey.secondary.size(), 50); ++i) {
    const SecondarySink& sink = survey.secondary[i];
    text += fmt::format(
        "<li>Secondary sink from layer {}: {} at {} position{}, drawing {} each, norm {:.3g} times "
        "the median</li>\n",
        sink.layer, token_html(view, sink.token), show_count(sink.count),
        sink.count == 1 ? "" : "s", show_value(sink.sink), sink.norm_ratio);
  }
  if (std::isfinite(survey.loss.mean))
    text += fmt::format("<li>Loss: {} nats per predicted token</li>\n", show_estimate(survey.loss));
  return text + "</ul>\n";
}

std::string choice(const ArchiveView& view, std::size_t count, const char* id) {
  std::string text = fmt::format("<label>Inputs <select id=\"{}\">", id);
  for (std::size_t i = 0; i < count; ++i)
    text += fmt::format("<option value=\"{}\">{}</option>", i, html(survey_title(view.surveys[i])));
  return text + "</select></label>\n";
}

}  // namespace

std::string sink_section(const ArchiveView& view) {
  const std::size_t count = drawn(view);
  std::string body;
  if (view.surveys.empty()) {
    return section("sink", "Sink of every head",
                   absent("There is no survey of sinks in the archive."));
  }
  if (count < view.surveys.size()) {
    body +=
        absent(fmt::format("{} of {} conditions are shown; the others are too large for this "
                           "page or hold no map.",
                           count, view.surveys.size()));
  }
  if (count == 0) return section("sink", "Sink of every head", body);
  const SinkSurvey& main = view.surveys.front().second;
  body += fmt::format(
      "<p>The attention that position 0 draws in each head, mean over queries ({}) and sequences. "
      "Uniform attention would give {}. Beside the map: the mean over heads, and the waves.</p>\n",
      to_string(main.options.queries), show_value(main.null));
  body +=
      "<div class=\"controls\">" + choice(view, count, "map-survey") + "</div>\n" +
      "<div class=\"wide\"><canvas id=\"map\" tabindex=\"0\" role=\"application\" "
      "aria-label=\"Map of the sink of each head, layers downwards, heads to the right. Arrow "
      "keys move, Enter chooses the head.\"></canvas></div>\n"
      "<div class=\"scale\" id=\"map-scale\" aria-hidden=\"true\"></div>\n"
      "<output id=\"map-said\" class=\"said\" aria-live=\"polite\">Point at a cell, or move with "
      "the arrow keys; click or Enter shows that head's attention.</output>\n";
  RowBudget budget{.left = 2000};
  for (std::size_t i = 0; i < count; ++i) {
    const SinkSurvey& survey = view.surveys[i].second;
    body += fmt::format(
        "<details{}><summary>{}: waves, rivals, loss, and every layer as a table"
        "</summary>\n",
        i == 0 ? " id=\"main-table\"" : "", html(survey_title(view.surveys[i])));
    body += facts_of(view, survey);
    body += fmt::format(
        "<p>“Heads above”: share of heads whose sink exceeds {:g}. Norms and "
        "cosines as the layer is entered.</p>\n",
        survey.options.epsilon);
    body += layer_rows(survey, budget) + "</details>\n";
  }
  return section("sink", "Sink of every head", body);
}

std::string profile_section(const ArchiveView& view) {
  const std::size_t count = drawn(view);
  const bool there = count > 0 && view.surveys.front().second.p0_norm.defined();
  if (!there) {
    return section("profiles", "Norm and direction over layers",
                   absent("There are no norms in the archive."));
  }
  const SinkSurvey& main = view.surveys.front().second;
  std::string body =
      "<p>Length of the residual stream at position 0 (mean) and elsewhere (median), on a "
      "logarithmic scale; below it, how alike position 0's state is over sequences (cosine to its "
      "mean) and how well a linear detector tells it from the others (area under the curve). The "
      "bands are the waves.</p>\n";
  body += "<div class=\"controls\">" + choice(view, count, "profile-survey") + "</div>\n";
  body +=
      "<div id=\"norms\" class=\"profile\" tabindex=\"0\" role=\"application\" aria-label=\"Norms "
      "over layers. Left and right arrow keys move.\"></div>\n"
      "<div id=\"directions\" class=\"profile\" tabindex=\"0\" role=\"application\" "
      "aria-label=\"Cosine and separability over layers. Left and right arrow keys move.\"></div>\n"
      "<output id=\"profile-said\" class=\"said\" aria-live=\"polite\">Point at a layer, or move "
      "with "
      "the arrow keys.</output>\n";
  body +=
      fmt::format("<p>Where the norm at position 0 steps up: {}. Where it is erased: {}.</p>\n",
                  html(steps_sentence(main, true), 2000), html(steps_sentence(main, false), 2000));
  return section("profiles", "Norm and direction over layers", body);
}

std::string attention_section(const ArchiveView& view) {
  if (!view.attention || view.attention->heads.empty() || view.attention->tokens.empty()) {
    return section("attention", "Attention of single heads",
                   absent("The archive holds no attention patterns: it was made before plumb kept "
                          "them, or the job ended before they were measured. Repeat the command to "
                          "have them."));
  }
  std::string body =
      "<p>Where a head looks, in the first tokens of a few sequences. Left: each query's row of "
      "attention. Right: the tokens, coloured by what the chosen query (or the mean over queries) "
      "gives them. Values are kept in steps of 1/255.</p>\n"
      "<div class=\"controls\"><label>Sequence <select id=\"seen-sequence\"></select></label>\n"
      "<label>Layer <select id=\"seen-layer\"></select></label>\n"
      "<label>Head <select id=\"seen-head\"></select></label>\n"
      "<button type=\"button\" id=\"seen-mean\">Mean over queries</button></div>\n"
      "<div class=\"seen\"><canvas id=\"pattern\" tabindex=\"0\" role=\"application\" "
      "aria-label=\"Attention pattern, queries downwards, keys to the right. Arrow keys move, "
      "Enter "
      "chooses the query.\"></canvas>\n"
      "<div><div id=\"tokens\" class=\"tokens\" role=\"listbox\" aria-label=\"Tokens; arrow keys "
      "move, "
      "Enter chooses the query\" tabindex=\"0\"></div></div></div>\n"
      "<output id=\"seen-said\" class=\"said\" aria-live=\"polite\"></output>\n";
  const std::size_t sequences = view.attention->tokens.size();
  const std::size_t fit =
      std::min(sequences, std::max<std::size_t>(1, most_maps / view.attention->heads.size()));
  const std::int64_t all = view.surveys.empty() || !view.surveys.front().second.mean.defined()
                               ? 0
                               : view.surveys.front().second.mean.numel();
  if (static_cast<std::int64_t>(std::min(view.attention->heads.size(), most_maps)) < all) {
    body += absent(
        "Of each layer, the heads with the largest and the smallest sinks are shown; all "
        "of them would make this page too large.");
  }
  if (fit < sequences) {
    body += absent(fmt::format("{} of {} sequences of the archive are shown.", fit, sequences));
  }
  return section("attention", "Attention of single heads", body);
}

Json page_data(const ArchiveView& view) {
  Json data = {{"surveys", Json::array()}};
  for (std::size_t i = 0; i < drawn(view); ++i) {
    const SinkSurvey& survey = view.surveys[i].second;
    Json waves = Json::array();
    for (const Wave& wave : survey.waves) waves.push_back(Json::array({wave.onset, wave.last}));
    data["surveys"].push_back(
        {{"title", survey_title(view.surveys[i])},
         {"layers", survey.mean.size(0)},
         {"heads", survey.mean.size(1)},
         {"mean", thousandths(survey.mean)},
         {"layer_mean", thousandths(survey.layer_mean)},
         {"rate", thousandths(survey.rate)},
         {"epsilon", std::isfinite(survey.options.epsilon) ? survey.options.epsilon : 0.0},
         {"waves", waves},
         {"norm", rounded(survey.p0_norm)},
         {"median", rounded(survey.median_norm)},
         {"cosine", rounded(survey.p0_cosine)},
         {"separability", rounded(survey.separability)}});
  }
  if (!view.attention || view.attention->heads.empty() || view.attention->tokens.empty()) {
    data["attention"] = nullptr;
    return data;
  }
  const AttentionView& seen = *view.attention;
  const std::size_t heads = std::min(seen.heads.size(), most_maps);
  const std::size_t sequences =
      std::min(seen.tokens.size(), std::max<std::size_t>(1, most_maps / heads));
  Json places = Json::array();
  for (std::size_t m = 0; m < heads; ++m)
    places.push_back(Json::array({seen.heads[m].first, seen.heads[m].second}));
  data["attention"] = {{"heads", places}, {"sequences", Json::array()}};
  for (std::size_t b = 0; b < sequences; ++b) {
    const std::int64_t length =
        std::min(static_cast<std::int64_t>(seen.tokens[b].size()), most_positions);
    Json tokens = Json::array();
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t id = seen.tokens[b][static_cast<std::size_t>(t)];
      const auto known = view.texts.find(id);
      tokens.push_back(known == view.texts.end() ? fmt::format("#{}", id)
                                                 : known->second.substr(0, 80));
    }
    Json maps = Json::array();
    for (std::size_t m = 0; m < heads; ++m) {
      const at::Tensor map =
          seen.pattern[static_cast<std::int64_t>(b)][static_cast<std::int64_t>(m)];
      const auto cells = map.accessor<double, 2>();
      std::vector<unsigned char> bytes;
      for (std::int64_t query = 0; query < length; ++query) {
        for (std::int64_t key = 0; key <= query; ++key) {
          const double value = cells[query][key];
          bytes.push_back(std::isfinite(value) ? static_cast<unsigned char>(std::lround(
                                                     255.0 * std::clamp(value, 0.0, 1.0)))
                                               : 0);
        }
      }
      maps.push_back(base64(bytes));
    }
    data["attention"]["sequences"].push_back({{"tokens", tokens}, {"maps", maps}});
  }
  return data;
}

}  // namespace plumb::report
