// The report of `plumb sink`.
#include <fmt/format.h>

#include "plumb/error.h"
#include "plumb/report_heads.h"
#include "plumb/report_text.h"
#include "report/heads_pieces.h"
#include "report/text_pieces.h"

namespace plumb {

std::string sink_text(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const Tokenizer* tokenizer) {
  return sink_text(run, surveys, std::vector<HeadAttention>(), tokenizer);
}

std::string sink_text(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const std::vector<HeadAttention>& heads, const Tokenizer* tokenizer) {
  using namespace report;
  if (surveys.empty()) throw Error(ErrorKind::bad_argument, "no survey to report");
  const SinkSurvey& main = surveys.front().second;
  std::string text = show_run(run, &main);
  text +=
      wrap(fmt::format("Sink of a head: attention to position 0, mean over queries ({}); rates {}.",
                       to_string(main.options.queries),
                       main.options.pool == Pool::pooled ? "of the mean over sequences"
                                                         : "sequence by sequence, then averaged"),
           0, 0);
  std::int64_t evaluations = 0;
  for (std::size_t i = 0; i < surveys.size(); ++i) {
    const auto& [name, survey] = surveys[i];
    text += heading(fmt::format("{}: {}", name, show_inputs(survey)));
    text += layer_table(survey) + "\n" + survey_notes(survey, tokenizer);
    if (i < heads.size()) text += "\n" + attention_table(heads[i]);
    evaluations += survey.evaluations;
  }
  return text + show_end(run, evaluations);
}

}  // namespace plumb
