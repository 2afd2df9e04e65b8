// plumb pairs: clean and corrupt prompts from templates.
#include <memory>

#include "output.h"
#include "plumb/error.h"
#include "plumb/pair_tasks.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct PairFlags {
  Common common = {};
  ModelFlags model = {};
  std::string task = {};
  PairTaskOptions options = {};
};

int run_pairs(const PairFlags& flags) {
  if (flags.task.empty()) {
    throw Error(ErrorKind::bad_argument,
                "plumb pairs needs a task: ioi, greater-than or induction; see plumb pairs --help");
  }
  const PairTask task = parse_pair_task(flags.task);
  PairTaskOptions options = flags.options;
  options.seed = flags.common.seed;
  const Chosen chosen = open_model(flags.model, flags.common);
  std::string text;
  for (const std::string& line :
       make_pair_lines(task, chosen.tokens(), chosen.model.config().vocab, options))
    text += line + "\n";
  print(text);
  return 0;
}

}  // namespace

Command pairs_command() {
  return {"pairs", "Make pairs of prompts for plumb patch: ioi, greater-than, induction",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<PairFlags>();
            app.add_option("TASK", flags->task, "ioi, greater-than or induction")->type_name("");
            offer_model(app, flags->model);
            offer(app, "-n,--count", "N", "Pairs (64)", [flags](const std::string& text) {
              flags->options.count = whole("--count", text, 1, 1'000'000);
            });
            offer(app, "--length", "T", "Of induction: random tokens before they start again (16)",
                  [flags](const std::string& text) {
                    flags->options.length = whole("--length", text, 2, 1'000'000);
                  });
            offer_seed(app, flags->common, "Of every random choice");
            offer_quiet(app, flags->common);
            return [flags] { return run_pairs(*flags); };
          }};
}

}  // namespace plumb::app
