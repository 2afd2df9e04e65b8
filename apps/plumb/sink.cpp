// plumb sink: how much attention position 0 draws, layer by layer.
#include "output.h"
#include "plumb/error.h"
#include "plumb/report_archive.h"
#include "plumb/report_heads.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "terminal.h"

namespace plumb::app {
namespace {

struct SinkFlags {
  Common common = {};
  ModelFlags model = {};
  InputFlags inputs = {};
  SinkOptions options = {};
};

std::vector<Condition> conditions(const SinkFlags& flags, const Chosen& chosen) {
  const Content content = read_content(flags.inputs, chosen, flags.common.seed);
  std::vector<Condition> list;
  for (const SinkCondition& condition : sink_conditions(flags.inputs, content.kind, chosen)) {
    list.push_back({condition.name,
                    condition.random
                        ? random_twin(content, condition.bos, chosen, flags.common.seed)
                        : with_bos(content, condition.bos, chosen.model),
                    {}});
  }
  return list;
}

int run_sink(const SinkFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  check(flags.options);
  if (!common.out.empty()) prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "sink", command_line, common.seed);
  std::vector<Condition> list = conditions(flags, chosen);
  std::vector<std::pair<std::string, SinkSurvey>> surveys;
  std::vector<HeadAttention> heads(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    Condition& condition = list[i];
    condition.survey = survey_sink(chosen.model, condition.inputs, flags.options, heads[i],
                                   show_progress(common.quiet));
    surveys.emplace_back(condition.name, condition.survey);
  }
  Illustration shown;
  if (!common.out.empty()) {
    shown = illustrate(chosen.model, list.front().inputs, list.front().survey, chosen.tokens());
  }
  end_run(run, chosen.model);
  name_files(run, common.out, "sink");
  const std::string json = sink_json(run, surveys, heads);
  const std::string text = sink_text(run, surveys, heads, chosen.tokens());
  deliver(
      run, [&](const auto& path) { write_archive(path, run, list, shown, heads); }, json, text,
      common.json ? json : shown_text(text));
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

std::vector<SinkCondition> sink_conditions(const InputFlags& flags, const std::string& kind,
                                           const Chosen& chosen) {
  if (flags.bos) return {{to_string(*flags.bos), bos_id(*flags.bos, chosen.tokens())}};
  if (kind != "text") return {{"none"}};
  std::vector<SinkCondition> list;
  const auto native = bos_id({.kind = Bos::Kind::native}, chosen.tokens());
  if (native) list.push_back({"native", native});
  list.push_back({"none"});
  list.push_back({.name = "random", .random = true});
  return list;
}

Command sink_command() {
  return {"sink", "Measure how much attention position 0 draws, layer by layer",
          [](CLI::App& app, const std::string& command_line) {
            const auto flags = std::make_shared<SinkFlags>();
            offer_model(app, flags->model);
            offer_inputs(app, flags->inputs,
                         "Token before every sequence (left out: text with the tokenizer's own, "
                         "without, and random ids; others without)");
            offer_sink_options(app, flags->options);
            offer_device(app, flags->common);
            offer_dtype(app, flags->common);
            offer_threads(app, flags->common);
            offer_layers(app, flags->common);
            offer_memory(app, flags->common);
            offer_seed(app, flags->common, "Of random ids and planted models");
            offer_out(app, flags->common, "Also write sink.h5, sink.json and sink.txt there");
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags, command_line] { return run_sink(*flags, command_line); };
          }};
}

}  // namespace plumb::app
