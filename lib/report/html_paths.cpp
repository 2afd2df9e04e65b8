// What the drawn graph is worth: against the model, against random graphs, path by path.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/p0_tables.h"
#include "report/text_pieces.h"

namespace plumb::report {
namespace {

constexpr std::size_t most_waves = 12;
constexpr std::size_t most_sentences = 50;

std::string paragraphs(const std::vector<std::string>& sentences) {
  std::string text;
  for (std::size_t i = 0; i < std::min(sentences.size(), most_sentences); ++i)
    text += fmt::format("<p>{}</p>\n", html(sentences[i], 2000));
  return text;
}

}  // namespace

std::string paths_part(const ArchiveView& view, RowBudget& budget) {
  const double null = view.surveys.empty() ? std::nan("") : view.surveys.front().second.null;
  std::string body;
  for (std::size_t i = 0; i < std::min(view.waves.size(), most_waves); ++i) {
    const WaveReport& wave = view.waves[i].found;
    if (wave.graph.edges == 0) continue;
    body += fmt::format("<h3>Paths of wave {}: {}</h3>\n", i + 1,
                        show_layers(wave.wave.onset, wave.wave.last));
    body += paragraphs(graph_sentences(wave));
    body +=
        folded_effects(wave,
                       "Its paths, in the order of the forward pass, each cut alone in the full "
                       "model (the reader gets the sender's mean over t > 0)",
                       wave.paths, null, true, budget);
  }
  if (!body.empty() && view.circuit) body += paragraphs(neuron_sentences(*view.circuit));
  return body;
}

}  // namespace plumb::report
