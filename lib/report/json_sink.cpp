// The document of `plumb sink`.
#include "plumb/error.h"
#include "plumb/report_json.h"
#include "report/json_pieces.h"

namespace plumb {

std::string sink_json(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys) {
  using report::Json;
  if (surveys.empty()) throw Error(ErrorKind::bad_argument, "no survey to report");
  const SinkSurvey& main = surveys.front().second;

  Json json = report::document(run);
  json["condition"] = surveys.front().first;
  json["inputs"] = report::inputs_json(main);
  json["conventions"] = report::sink_conventions(main);
  const auto waves = [](const SinkSurvey& survey) {
    Json list = Json::array();
    for (const Wave& wave : survey.waves) list.push_back(report::to_json(wave));
    return list;
  };
  json["waves"] = waves(main);
  report::put_survey(json, main);
  json["conditions"] = Json::object();
  for (const auto& [name, survey] : surveys) {
    Json& condition = json["conditions"][name];
    condition["inputs"] = report::inputs_json(survey);
    condition["waves"] = waves(survey);
    report::put_survey(condition, survey);
  }
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
