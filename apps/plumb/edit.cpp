// plumb edit: a changed model, and what the change costs.
#include "edit.h"

#include <fmt/format.h>

#include "output.h"
#include "plumb/edit.h"
#include "plumb/error.h"
#include "plumb/report_edit.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct EditFlags {
  Common common = {};
  ModelFlags model = {};
  InputFlags inputs = {};
  EditOptions options = {};
  std::string direction = {};  ///< "sink", or what `vector_from` reads
  bool no_rounding = false;
};

constexpr std::int64_t kMost = 1'000'000'000;

bool edits_anything(const EditOptions& options) {
  return options.direction.defined() || !options.silence.empty() || options.sink_slot ||
         !options.knock_out.empty() || options.window > 0;
}

int run_edit(const EditFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  const Chosen chosen = open_model(flags.model, common);
  EditOptions options = flags.options;
  if (flags.no_rounding) options.bits.clear();
  EditDone done;
  if (!flags.direction.empty() && flags.direction != "sink") {
    options.direction = vector_from(flags.direction);
    done.direction = flags.direction;
  } else if (flags.direction.empty()) {
    check(options, chosen.model.config());
  }
  if (flags.direction.empty() && !edits_anything(options)) {
    throw Error(ErrorKind::bad_argument,
                "plumb edit needs an edit: --project-out, --silence, --sink-slot, --knock-out or "
                "--window");
  }
  const Inputs inputs = read_inputs(flags.inputs, chosen, common.seed);
  RunInfo run = start_run(chosen.model, "edit", command_line, common.seed);
  if (flags.direction == "sink") {
    const SinkDirection found = find_sink_direction(chosen.model, inputs);
    options.direction = found.direction;
    if (options.writers.empty()) options.writers = found.writers;
    done.direction = fmt::format("the mean state of position 0 where block {} begins", found.onset);
  }
  const EditedModel edited = edit_weights(chosen.model, options);
  if (!common.out.empty()) prepare_directory(common.out);
  const EditReport report =
      measure_edit(chosen.model, edited, inputs, options, show_progress(common.quiet));
  if (!common.out.empty()) {
    name_files(run, common.out, "edit");
    if (edited.not_written.empty()) {
      done.tokenizer_problem = write_edited(edited, chosen.checkpoint, common.out);
      done.written = common.out;
      run.files["model"] = common.out;
    }
  }
  end_run(run, chosen.model);
  const std::string json = edit_json(run, inputs, report, edited, done);
  const std::string text = edit_text(run, inputs, report, edited, done);
  deliver(
      run,
      [&](const std::filesystem::path& path) {
        write_archive(path, run, inputs, report, edited, done);
      },
      json, text, common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command edit_command() {
  return {
      "edit", "Change a model (take its sink out, or give it another) and say what it costs",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<EditFlags>();
        EditOptions* options = &flags->options;
        offer_model(app, flags->model);
        offer_inputs(app, flags->inputs,
                     "Token before every sequence (text: the tokenizer's own; others: none)");
        const auto text = [&](const std::string& flag, const std::string& name,
                              const std::string& help, std::string& value) {
          offer(app, flag, name, help, [flag, &value](const std::string& given) {
            if (given.empty()) throw Error(ErrorKind::bad_argument, flag + " expects a value");
            value = given;
          });
        };
        text("--project-out", "DIRECTION",
             "In the weights: take a direction out of what components write: a JSON file, "
             "FILE.h5:/DATASET, or sink, the state of position 0 where the strongest wave begins",
             flags->direction);
        text("--writers", "SET",
             "Components that lose it, like m0+m1 (of sink: all before the wave; else all)",
             options->writers);
        text("--silence", "SET", "In the weights: components that write nothing any more",
             options->silence);
        offer(app, "--sink-slot", "SCORE",
              "In the weights where the family has learned sink logits, else while it runs: a "
              "slot of this score and value 0 beside every head's keys",
              [options](const std::string& given) {
                options->sink_slot = number("--sink-slot", given, -1e4, 1e4);
              });
        text("--knock-out", "SET",
             "While it runs: components whose writes at position 0 become the mean of later ones",
             options->knock_out);
        offer(app, "--window", "N", "While it runs: queries see their last N keys alone",
              [options](const std::string& given) {
                options->window = whole("--window", given, 1, kMost);
              });
        offer(app, "--keep", "K", "... and the first K (0)", [options](const std::string& given) {
          options->keep = whole("--keep", given, 0, kMost);
        });
        offer(app, "--epsilon", "E", "Mean attention that makes a sink head (0.3)",
              [options](const std::string& given) {
                options->epsilon = number("--epsilon", given, 0.0, 1.0);
              });
        app.add_flag("--no-rounding", flags->no_rounding,
                     "Do not measure activations rounded to 8 and 4 bits (a fifth of the time)");
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_seed(app, flags->common, "Of random ids and planted models");
        offer_out(app, flags->common,
                  "Where the edited model goes, if a checkpoint can hold it, with edit.h5, .json "
                  "and .txt");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_edit(*flags, command_line); };
      }};
}

}  // namespace plumb::app
