// Finished P0 jobs read back, and compared.
#include "plumb/p0_general.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "plumb/error.h"
#include "report/text_pieces.h"

namespace plumb {

namespace {

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw Error(
      ErrorKind::bad_file,
      fmt::format("{}: {}; expected the p0.json of a finished plumb p0", file.string(), what));
}

Verdict verdict_named(const std::filesystem::path& file, const std::string& name) {
  for (const Verdict verdict : {Verdict::positional, Verdict::token, Verdict::learned_position,
                                Verdict::secondary, Verdict::none, Verdict::sink_logits}) {
    if (name == to_string(verdict)) return verdict;
  }
  refuse(file, fmt::format("no verdict is called \"{:.40}\"", name));
}

Holds holds_named(const std::string& name) {
  if (name == to_string(Holds::yes)) return Holds::yes;
  return name == to_string(Holds::no) ? Holds::no : Holds::untested;
}

}  // namespace

P0Summary read_p0_summary(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) refuse(file, "cannot be read");
  std::stringstream text;
  text << in.rdbuf();
  const nlohmann::json json = nlohmann::json::parse(text.str(), nullptr, false);
  try {
    if (json.is_discarded()) refuse(file, "is no JSON");
    if (!json.at("complete").get<bool>()) refuse(file, "the job had not finished");
    P0Summary summary{.file = file.string()};
    const auto& model = json.at("model");
    summary.model =
        model.is_string() ? model.get<std::string>() : model.value("name", std::string("unnamed"));
    summary.verdict = verdict_named(file, json.at("verdict").get<std::string>());
    double most = -1.0;
    for (const auto& wave : json.at("waves")) {
      const double mean = wave.at("mean").get<double>();
      if (mean <= most) continue;
      most = mean;
      summary.rungs.clear();
      for (const auto& rung : wave.at("ladder")) {
        summary.rungs.emplace_back(rung.at("level").get<std::string>(),
                                   holds_named(rung.at("holds").get<std::string>()));
      }
    }
    return summary;
  } catch (const nlohmann::json::exception&) {
    refuse(file, "lacks a field, or has one of another kind");
  }
}

std::string p0_generality_text(const P0Generality& found) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& model : found.models) {
    std::vector<std::string> row{model.model, to_string(model.verdict)};
    for (const auto& rung : found.rungs) {
      std::string mark = "-";
      for (const auto& [level, holds] : model.rungs) {
        if (level == rung.level && holds != Holds::untested)
          mark = holds == Holds::yes ? "yes" : "no";
      }
      row.push_back(mark);
    }
    rows.push_back(std::move(row));
  }
  std::vector<std::string> titles{"<model", "<verdict"};
  for (const auto& rung : found.rungs) titles.push_back("<" + rung.level);
  std::string text = report::columns(titles, rows) + "\n";
  for (const auto& rung : found.rungs)
    text += fmt::format("  {}  {}  {}\n", rung.level, report::show_interval(rung.low, rung.high),
                        rung.claim);
  const char* verdict = found.general.holds == Holds::yes  ? "holds"
                        : found.general.holds == Holds::no ? "fails"
                                                           : "untested: fewer than three models";
  return text + fmt::format("\n  L9 {}: {} {}; the lower end must reach {:.2f}\n", verdict,
                            found.general.claim,
                            report::show_interval(found.general.low, found.general.high),
                            found.general.null);
}

}  // namespace plumb
