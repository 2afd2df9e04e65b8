// Pieces that the sections of the HTML report share.
#include <fmt/format.h>

#include <algorithm>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/text_pieces.h"

namespace plumb::report {

std::string section(std::string_view name, std::string_view title, const std::string& body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n"
      "<h2 id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
      name, html(title), body);
}

std::string absent(std::string_view sentence) {
  return fmt::format("<p class=\"absent\">{}</p>\n", html(sentence));
}

std::string html_table(const std::vector<std::string>& titles,
                       const std::vector<std::vector<std::string>>& rows, RowBudget& budget,
                       const std::vector<std::string>& row_classes) {
  std::string text = "<div class=\"wide\"><table>\n<thead><tr>";
  for (const std::string& title : titles) {
    const bool left = title.starts_with('<');
    text += fmt::format("<th scope=\"col\"{}>{}</th>", left ? " class=\"left\"" : "",
                        html(left ? title.substr(1) : title));
  }
  text += "</tr></thead>\n<tbody>\n";
  const std::size_t shown = std::min(rows.size(), budget.left);
  budget.left -= shown;
  for (std::size_t i = 0; i < shown; ++i) {
    const bool classed = i < row_classes.size() && !row_classes[i].empty();
    text += classed ? fmt::format("<tr class=\"{}\">", row_classes[i]) : "<tr>";
    for (std::size_t k = 0; k < rows[i].size(); ++k) {
      const bool left = titles[k].starts_with('<');
      text += fmt::format("<td{}>{}</td>", left ? " class=\"left\"" : "", rows[i][k]);
    }
    text += "</tr>\n";
  }
  text += "</tbody></table></div>\n";
  if (shown < rows.size()) {
    text += absent(fmt::format("{} more rows are in the archive; this page holds no more of them.",
                               show_count(static_cast<std::int64_t>(rows.size() - shown))));
  }
  return text;
}

std::string token_html(const ArchiveView& view, std::int64_t id) {
  const auto found = view.texts.find(id);
  if (found == view.texts.end()) return fmt::format("token {}", id);
  return fmt::format("<q class=\"token\">{}</q>", html(found->second, 80));
}

std::string survey_title(const std::pair<std::string, SinkSurvey>& survey) {
  const bool known = !survey.second.inputs_kind.empty() && survey.second.sequences > 0;
  return known ? show_inputs(survey.second) : "condition " + survey.first;
}

}  // namespace plumb::report
