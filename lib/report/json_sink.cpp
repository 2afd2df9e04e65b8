// The document of `plumb sink`.
#include "plumb/error.h"
#include "plumb/report_heads.h"
#include "plumb/report_json.h"
#include "report/heads_pieces.h"
#include "report/json_pieces.h"

namespace plumb {

std::string sink_json(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys) {
  return sink_json(run, surveys, std::vector<HeadAttention>());
}

std::string sink_json(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const std::vector<HeadAttention>& heads) {
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
  if (!heads.empty()) {
    json["conventions"]["attention"] =
        "of each head, over the same queries and then over sequences: entropy in nats; log-sum-exp "
        "of the scores; the key that most queries attend to most (of most sequences), the share of "
        "queries that do, and the share whose largest attention is to position 0";
    json["attention"] = report::to_json(heads.front());
  }
  json["conditions"] = Json::object();
  for (std::size_t i = 0; i < surveys.size(); ++i) {
    const auto& [name, survey] = surveys[i];
    Json& condition = json["conditions"][name];
    condition["inputs"] = report::inputs_json(survey);
    condition["waves"] = waves(survey);
    report::put_survey(condition, survey);
    if (i < heads.size()) condition["attention"] = report::to_json(heads[i]);
  }
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
