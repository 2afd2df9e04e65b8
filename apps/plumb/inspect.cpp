// plumb inspect: what a checkpoint holds.
#include "output.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"

namespace plumb::app {
namespace {

struct InspectFlags {
  Common common = {};
  ModelFlags model = {};
};

int run_inspect(const InspectFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "inspect", command_line, common.seed);
  end_run(run);
  print(common.json ? inspect_json(run, chosen.checkpoint, chosen.tokens())
                    : inspect_text(run, chosen.checkpoint, chosen.tokens()));
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command inspect_command() {
  return {"inspect", "Show a model's architecture, sizes, tokenizer and sites",
          [](CLI::App& app, const std::string& command_line) {
            const auto flags = std::make_shared<InspectFlags>();
            offer_model(app, flags->model);
            offer_dtype(app, flags->common);
            offer_seed(app, flags->common, "Of planted models");
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags, command_line] { return run_inspect(*flags, command_line); };
          }};
}

}  // namespace plumb::app
