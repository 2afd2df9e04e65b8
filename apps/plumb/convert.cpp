// plumb convert: a checkpoint as a Hugging Face directory.
#include <fmt/format.h>

#include "output.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct ConvertFlags {
  Common common = {};
  ModelFlags model = {};
  ConvertOptions options = {};
};

at::ScalarType stored_type(const std::string& text) {
  return scalar_type(one_of("--dtype", text, {"f32", "f16", "bf16", "f64"}));
}

int run_convert(const ConvertFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  if (common.out.empty()) {
    throw Error(ErrorKind::bad_argument, "plumb convert needs --out DIR to write the model to");
  }
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "convert", command_line, common.seed);
  const Conversion conversion =
      convert_checkpoint(chosen.checkpoint, common.out, flags.options, show_progress(common.quiet));
  end_run(run, chosen.model);
  run.files["model"] = conversion.directory.string();
  print(common.json ? convert_json(run, conversion) : convert_text(run, conversion));
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command convert_command() {
  return {"convert", "Write a model as a Hugging Face directory, weight for weight",
          [](CLI::App& app, const std::string& command_line) {
            const auto flags = std::make_shared<ConvertFlags>();
            offer_model(app, flags->model);
            offer_out(app, flags->common, "Where the Hugging Face directory goes (needed)");
            offer(app, "--dtype", "f32|f16|bf16|f64",
                  "Type of the stored weights (the narrowest that holds them all exactly)",
                  [flags](const std::string& text) { flags->options.dtype = stored_type(text); });
            offer(app, "--shard-size", "SIZE", "Largest file of weights, say 2GB (5GB)",
                  [flags](const std::string& text) {
                    flags->options.shard_bytes = byte_size("--shard-size", text);
                  });
            offer_seed(app, flags->common, "Of planted models");
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags, command_line] { return run_convert(*flags, command_line); };
          }};
}

}  // namespace plumb::app
