// The verdict and the ladder, which stand first.
#include <fmt/format.h>

#include <cmath>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/text_pieces.h"

namespace plumb::report {
namespace {

constexpr std::size_t most_waves = 12;

struct Mark {
  const char* css;
  const char* sign;
  const char* words;
};

Mark mark_of(Holds holds) {
  switch (holds) {
    case Holds::yes: return {"yes", "✓", "holds"};
    case Holds::no: return {"no", "✗", "fails"};
    case Holds::untested: break;
  }
  return {"untested", "–", "not tested"};
}

std::string steps_of(const std::vector<Rung>& ladder) {
  std::string text = "<ol class=\"rungs\">";
  for (const Rung& rung : ladder) {
    const Mark mark = mark_of(rung.holds);
    text += fmt::format("<li class=\"{}\"><b>{} {}</b> <span>{}</span><i>{}</i></li>", mark.css,
                        mark.sign, html(rung.level, 20), html(rung.name, 60), mark.words);
  }
  return text + "</ol>\n";
}

std::string ladder_of(const std::vector<Rung>& ladder, RowBudget& budget) {
  std::vector<std::vector<std::string>> rows;
  for (const Rung& rung : ladder) {
    const Mark mark = mark_of(rung.holds);
    const bool tested = rung.holds != Holds::untested;
    rows.push_back({html(rung.level, 20), html(rung.name, 60),
                    fmt::format("<span class=\"{}\">{} {}</span>", mark.css, mark.sign, mark.words),
                    tested ? show_value(rung.value) : "", tested ? show_value(rung.null) : "",
                    tested ? show_interval(rung.low, rung.high) : "",
                    fmt::format("<span class=\"claim\">{}</span>", html(rung.claim, 600))});
  }
  return html_table(
      {"<rung", "<name", "<state", "value", "by chance", "95 % interval", "<what the value is"},
      rows, budget);
}

}  // namespace

std::string verdict_section(const ArchiveView& view) {
  if (!view.located) {
    return section("verdict", "Verdict",
                   absent("This archive is one of plumb sink, which measures and judges nothing: "
                          "there is no verdict and no ladder in it. plumb p0 makes both."));
  }
  std::string body;
  if (!view.complete) {
    body += "<p class=\"verdict\">not reached</p>\n" +
            absent(
                "The job ended early. What follows was found by then; a part that is missing, or a "
                "table that is short, was not measured, and nothing follows from its absence.");
  } else {
    body += fmt::format("<p class=\"verdict\">{}</p>\n", html(view.verdict, 100));
    if (view.waves.empty()) {
      body +=
          "<p>No layer draws its attention to position 0: there is no sink to explain here.</p>\n";
    }
  }
  RowBudget budget{.left = 200};
  for (std::size_t i = 0; i < std::min(view.waves.size(), most_waves); ++i) {
    const WaveView& wave = view.waves[i];
    body += fmt::format("<h3>Wave {}: {}, {}</h3>\n", i + 1,
                        show_layers(wave.found.wave.onset, wave.found.wave.last),
                        html(wave.found.ladder.empty() ? "not judged" : wave.verdict, 100));
    if (!wave.sentence.empty()) body += fmt::format("<p>{}</p>\n", html(wave.sentence));
    if (wave.found.ladder.empty()) {
      body += absent("The ladder of this wave is not in the archive.");
      continue;
    }
    body += steps_of(wave.found.ladder) + ladder_of(wave.found.ladder, budget);
  }
  if (view.waves.size() > most_waves) {
    body +=
        absent(fmt::format("{} more waves are in the archive.", view.waves.size() - most_waves));
  }
  if (view.complete && std::isfinite(view.position_shift_change)) {
    body += fmt::format(
        "<p>All positions moved by 100: no head's sink changes by more than "
        "{:.1e}.</p>\n",
        view.position_shift_change);
  }
  if (!view.notes.empty()) {
    body += "<h3>Notes</h3>\n<ul>";
    for (std::size_t i = 0; i < std::min<std::size_t>(view.notes.size(), 50); ++i)
      body += fmt::format("<li>{}</li>", html(view.notes[i], 2000));
    body += "</ul>\n";
  }
  return section("verdict", "Verdict", body);
}

}  // namespace plumb::report
