// The parts of the HTML report, in the order of the page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/archive_view.h"
#include "report/json_pieces.h"

namespace plumb::report {

/// How many rows tables may still have, so that no archive makes a page of unbounded size.
struct RowBudget {
  std::size_t left = 1200;
};

std::string verdict_section(const ArchiveView& view);
std::string sink_section(const ArchiveView& view);
std::string profile_section(const ArchiveView& view);
std::string attention_section(const ArchiveView& view);
std::string effects_section(const ArchiveView& view, RowBudget& budget);
std::string circuit_section(const ArchiveView& view, RowBudget& budget);
std::string provenance_section(const ArchiveView& view);

/// What the page's script draws: surveys and attention.
Json page_data(const ArchiveView& view);

/// <section> with a heading; `name` is its anchor.
std::string section(std::string_view name, std::string_view title, const std::string& body);
/// A paragraph that says what the archive does not hold.
std::string absent(std::string_view sentence);
/// A table; cells are HTML already. Columns whose title starts with '<' stand to the left. Rows
/// beyond the budget are left out, and told.
std::string html_table(const std::vector<std::string>& titles,
                       const std::vector<std::vector<std::string>>& rows, RowBudget& budget,
                       const std::vector<std::string>& row_classes = {});
/// A token's text in quotes, or its id.
std::string token_html(const ArchiveView& view, std::int64_t id);
/// "64 sequences of 128 tokens of text, no BOS", or the survey's name where that is not known.
std::string survey_title(const std::pair<std::string, SinkSurvey>& survey);

/// Effects on a wave under a title that folds them away; empty if there are none.
std::string folded_effects(const WaveReport& wave, const std::string& title,
                           const std::vector<Effect>& effects, double null, bool open,
                           RowBudget& budget);
/// What the waves' graphs keep of the model, and their paths cut one by one.
std::string paths_part(const ArchiveView& view, RowBudget& budget);

/// The circuit as one inline SVG element, nodes and edges with data-* attributes.
std::string graph_svg(const Circuit& circuit);

}  // namespace plumb::report
