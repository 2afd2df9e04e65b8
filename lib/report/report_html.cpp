#include "plumb/report_html.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "plumb/hash.h"
#include "plumb/version.h"
#include "report/html_page.h"
#include "report/html_sections.h"
#include "report/html_text.h"

namespace plumb {
namespace report {
namespace {

constexpr std::array sections_named = {
    std::pair{"verdict", "Verdict"},       std::pair{"sink", "Sink of every head"},
    std::pair{"profiles", "Profiles"},     std::pair{"attention", "Attention"},
    std::pair{"effects", "Interventions"}, std::pair{"circuit", "Circuit"},
    std::pair{"provenance", "Provenance"}, std::pair{"repeat", "Repeat it"}};

std::string said(const ArchiveView& view, const char* key) {
  const auto found = view.provenance.find(key);
  return found == view.provenance.end() ? std::string() : found->second;
}

// What a browser compares a script with before it runs it.
std::string script_hash() {
  const std::string hex = sha256_hex(page_script.data(), page_script.size());
  std::vector<unsigned char> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<unsigned char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return base64(bytes);
}

std::string repeat_section(const ArchiveView& view) {
  const std::string line = said(view, "command_line");
  if (line.empty())
    return section("repeat", "Repeat it",
                   absent("The archive does not say which command made it."));
  return section(
      "repeat", "Repeat it",
      fmt::format("<p>This command, with the same model, made the archive (plumb {}):</p>\n<pre "
                  "id=\"command\" tabindex=\"0\">{}</pre>\n<button type=\"button\" id=\"copy\">Copy"
                  "</button> <output id=\"copy-said\" aria-live=\"polite\"></output>\n",
                  html(said(view, "plumb"), 100), html(line, 100'000)));
}

std::string header(const ArchiveView& view) {
  std::string text =
      fmt::format("<header><h1>{}</h1>\n<p>plumb {} {}", html(said(view, "model"), 300),
                  html(said(view, "plumb"), 50), html(said(view, "command"), 50));
  const auto add = [&](const std::string& what) {
    if (!what.empty()) text += " · " + html(what, 300);
  };
  add(said(view, "family"));
  if (!said(view, "layers").empty())
    add(fmt::format("{} layers of {} heads, width {}", said(view, "layers"), said(view, "heads"),
                    said(view, "d_model")));
  if (!view.surveys.empty()) add(survey_title(view.surveys.front()));
  add(said(view, "start"));
  text += "</p>\n<nav aria-label=\"Sections\">";
  for (const auto& [name, title] : sections_named)
    text += fmt::format("<a href=\"#{}\">{}</a> ", name, title);
  return text + "</nav></header>\n";
}

}  // namespace

std::string provenance_section(const ArchiveView& view) {
  std::string body;
  std::vector<std::vector<std::string>> rows;
  RowBudget budget{.left = 200};
  const auto table = [&](const char* title) {
    if (rows.empty()) return;
    body += fmt::format("<h3>{}</h3>\n", title) + html_table({"<what", "<value"}, rows, budget);
    rows.clear();
  };
  // Options are a JSON object.
  const Json options = Json::parse(said(view, "options"), nullptr, /*allow_exceptions=*/false);
  if (options.is_object()) {
    for (const auto& [key, value] : options.items())
      rows.push_back(
          {html(key, 100), html(value.is_string() ? value.get<std::string>() : dump(value), 2000)});
  }
  if (!view.surveys.empty()) {
    const SinkSurvey& survey = view.surveys.front().second;
    rows.push_back({"sink of a head",
                    "attention to position 0, mean over the chosen queries, then over sequences"});
    rows.push_back({"queries", to_string(survey.options.queries)});
    rows.push_back({"epsilon", fmt::format("{:g}", survey.options.epsilon)});
    rows.push_back({"chance", fmt::format("{:.4g}: uniform causal attention", survey.null)});
  }
  rows.push_back({"intervals", "95 % bootstrap over sequences"});
  rows.push_back({"layers, heads, positions",
                  "counted from 0; l + 0.5: after the attention of block l, "
                  "before its MLP"});
  table("Conventions");
  for (const auto& [key, value] : view.provenance) {
    if (key == "options" || key == "command_line") continue;
    rows.push_back({html(key, 100), fmt::format("<code>{}</code>", html(value, 1000))});
  }
  for (const auto& [name, survey] : view.surveys) {
    rows.push_back({html("inputs of " + name + ", sha256", 200),
                    fmt::format("<code>{}</code>", html(survey.inputs_sha256, 200))});
  }
  table("Provenance");
  return section("provenance", "Conventions and provenance", body);
}

}  // namespace report

std::string html_report(const std::filesystem::path& archive) {
  using namespace report;
  const ArchiveView view = read_view(archive);
  RowBudget budget;
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action "
      "'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<meta name=\"generator\" content=\"plumb {}\">\n<title>{}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<a class=\"skip\" href=\"#verdict\">Skip to the verdict</a>\n",
      script_hash(), version(), html("plumb: " + said(view, "model"), 300), page_style);
  page += header(view) + "<main>\n";
  page +=
      verdict_section(view) + sink_section(view) + profile_section(view) + attention_section(view);
  // They share the budget, in this order.
  page += effects_section(view, budget);
  page += circuit_section(view, budget);
  page += provenance_section(view) + repeat_section(view);
  page += fmt::format(
      "</main>\n<noscript><p class=\"absent\">Maps, profiles and attention are drawn by "
      "the page's own script, which is not allowed to run here; the tables hold the "
      "numbers.</p></noscript>\n<footer>Written by plumb {}.</footer>\n"
      "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{}</script>\n"
      "</body>\n</html>\n",
      version(), script_json(page_data(view)), page_script);
  return page;
}

std::string html_summary(const std::filesystem::path& archive, const std::filesystem::path& page,
                         std::size_t bytes, bool json) {
  if (!json) {
    const double size = static_cast<double>(bytes);
    return fmt::format(
        "{}: {}, opens in any browser\n", page.string(),
        size < 1e6 ? fmt::format("{:.0f} kB", size / 1e3) : fmt::format("{:.2f} MB", size / 1e6));
  }
  report::Json document = {{"plumb", version()},
                           {"command", "report"},
                           {"archive", archive.string()},
                           {"bytes", bytes},
                           {"files", {{"page", page.string()}}}};
  return report::print(document);
}

}  // namespace plumb
