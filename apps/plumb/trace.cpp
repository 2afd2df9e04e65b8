// plumb trace: the sink along the checkpoints of a training.
#include "plumb/trace.h"

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_trace.h"
#include "shared.h"
#include "trace_runs.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct TraceFlags {
  Common common = {};
  std::vector<std::string> directories = {};
  InputFlags inputs = {};
  TraceOptions options = {};
  TraceRunsFlags runs = {};
  std::string svg = {};
};

int run_trace(const TraceFlags& flags, const std::string& command_line) {
  Common common = flags.common;
  check(flags.options);
  if (flags.directories.size() > 1)
    return run_trace_runs(flags.directories, flags.runs, common, flags.svg);
  if (flags.runs.any()) {
    throw Error(ErrorKind::bad_argument,
                "--draw, --foresee, --series and --from mean something of several trainings; give "
                "their directories");
  }
  if (flags.directories.empty()) {
    throw Error(ErrorKind::bad_argument,
                "plumb trace needs a directory of checkpoints; see plumb trace --help");
  }
  if (!common.out.empty()) prepare_directory(common.out);
  const std::vector<TraceEntry> entries = find_checkpoints(flags.directories.front());
  // The last one says what texts are cut into, and which ids there are.
  const Chosen chosen = open_model({entries.back().path.string()}, common);
  const Inputs inputs = read_inputs(flags.inputs, chosen, common.seed);
  RunInfo run = start_run(chosen.model, "trace", command_line, common.seed);
  const std::filesystem::path directory = common.out;
  std::optional<Trace> known;
  if (!common.out.empty()) {
    run.files = {{"archive", (directory / "trace.h5").string()},
                 {"json", (directory / "trace.json").string()},
                 {"text", (directory / "trace.txt").string()},
                 {"table", (directory / "trace.csv").string()},
                 {"picture", (directory / "trace.svg").string()}};
    known = read_trace(run.files.at("archive"), inputs, flags.options);
  }
  const auto keep = [&](const Trace& trace) {
    if (!common.out.empty()) write_archive(run.files.at("archive"), run, inputs, trace);
  };
  LoadOptions load;
  load.dtype = chosen.model.dtype();
  load.device = chosen.model.device();
  load.threads = common.threads;
  load.memory = common.memory;
  const Trace trace = trace_checkpoints(entries, inputs, flags.options, load, known, keep,
                                        show_progress(common.quiet));
  const TraceSummary summary = summarise(trace, common.seed);
  end_run(run, chosen.model);
  const std::string json = trace_json(run, inputs, trace, summary);
  const std::string text = trace_text(run, trace, summary);
  deliver(
      [&] {
        if (!flags.svg.empty()) write_file(flags.svg, trace_svg(trace, summary));
        if (common.out.empty()) return;
        write_archive(run.files.at("archive"), run, inputs, trace);
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
        write_file(run.files.at("table"), trace_csv(trace));
        write_file(run.files.at("picture"), trace_svg(trace, summary));
      },
      common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command trace_command() {
  return {
      "trace", "Measure the sink along the checkpoints of a training",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<TraceFlags>();
        app.add_option("DIRECTORY", flags->directories,
                       "Where the checkpoints are: directories or .gguf files with a step in "
                       "their name, like step-000100. Several are trainings side by side: their "
                       "trace.csv or probes.csv are read, and no model is run")
            ->type_name("");
        offer_inputs(app, flags->inputs,
                     "Token before every sequence (text: the tokenizer's own; others: none)");
        offer_sink_options(app, flags->options.sink);
        offer(app, "--onset-rate", "R", "Share of a layer's heads that makes an onset (0.5)",
              [flags](const std::string& text) {
                flags->options.onset_rate = number("--onset-rate", text, 0.0, 1.0);
              });
        offer_trace_runs(app, flags->runs);
        offer(app, "--svg", "FILE", "Also write the picture there",
              [flags](const std::string& text) { flags->svg = text; });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_memory(app, flags->common);
        offer_seed(app, flags->common, "Of random ids and permutations");
        offer_out(app, flags->common,
                  "Also write trace.h5, .json, .csv, .txt and .svg there; a later call with it "
                  "measures new checkpoints only. Of several trainings: runs.json, .txt and .svg");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_trace(*flags, command_line); };
      }};
}

}  // namespace plumb::app
