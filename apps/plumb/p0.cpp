// plumb p0: the main job.
#include "plumb/p0.h"

#include <algorithm>
#include <exception>

#include "output.h"
#include "p0_flags.h"
#include "plumb/circuit.h"
#include "plumb/error.h"
#include "plumb/p0_catalogue.h"
#include "plumb/p0_general.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_p0.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "terminal.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct P0Flags {
  Common common = {.out = "out/p0"};
  ModelFlags model = {};
  InputFlags inputs = {};
  bool no_random = false;
  P0Options options = {};
  std::vector<std::string> only = {};  ///< experiments of the catalogue instead of the locator
  bool list = false;
  std::vector<std::string> general = {};  ///< finished jobs to compare
};

/// What was found. If the job ended early, `trouble` says why; nothing found at all is thrown at
/// once.
P0Report locate_or_stop(const Model& model, const P0Inputs& inputs, const P0Flags& flags,
                        std::exception_ptr& trouble) {
  P0Report report;
  try {
    locate_p0(model, inputs, flags.options, show_progress(flags.common.quiet), report);
  } catch (const Error& error) {
    if (report.surveys.empty()) throw;
    const std::string reason =
        error.kind() == ErrorKind::interrupted ? "interrupted" : error.what();
    trouble = std::make_exception_ptr(
        Error(error.kind(), reason + "; what was found by then is in " + flags.common.out));
  } catch (const std::exception&) {
    if (report.surveys.empty()) throw;
    trouble = std::current_exception();
  }
  return report;
}

/// What a report shows of the inputs; nothing where the job ended early.
Illustration illustrate_p0(const Chosen& chosen, const P0Inputs& inputs, const P0Report& report) {
  if (!report.complete) return {};
  std::vector<std::int64_t> ids;
  for (const WaveReport& wave : report.waves)
    ids.insert(ids.end(), wave.vocabulary_exceptions.begin(), wave.vocabulary_exceptions.end());
  return illustrate(chosen.model, inputs.plain, report.surveys.front(), chosen.tokens(), ids);
}

// The experiments that --only names, in place of the locator.
int run_only(P0Flags flags, const std::string& command_line) {
  const Common& common = flags.common;
  prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  flags.options.seed = common.seed;
  RunInfo run = start_run(chosen.model, "p0", command_line, common.seed);
  P0Inputs inputs;
  inputs.plain =
      with_bos(read_content(flags.inputs, chosen, common.seed), std::nullopt, chosen.model);
  const P0Experiments found = run_p0_experiments(chosen.model, inputs, flags.only, flags.options,
                                                 show_progress(common.quiet));
  name_files(run, common.out, "experiments");
  end_run(run, chosen.model);
  const std::string json = p0_experiments_json(run, found);
  const std::string text = p0_experiments_text(run, found);
  deliver(
      run, [&](const auto& path) { write_archive(path, run, found, inputs); }, json, text,
      common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

int run_p0(P0Flags flags, const std::string& command_line) {
  if (flags.list) {
    print(p0_catalogue_text());
    return 0;
  }
  if (!flags.general.empty()) {
    std::vector<P0Summary> models;
    for (const auto& file : flags.general) models.push_back(read_p0_summary(file));
    print(p0_generality_text(generalise(models)));
    return 0;
  }
  if (!flags.only.empty()) return run_only(std::move(flags), command_line);
  const Common& common = flags.common;
  const std::filesystem::path directory = common.out;
  prepare_directory(directory);
  const Chosen chosen = open_model(flags.model, common);
  flags.options.seed = common.seed;
  check(flags.options, chosen.model);
  RunInfo run = start_run(chosen.model, "p0", command_line, common.seed);
  const P0Inputs inputs = make_p0_inputs(flags.inputs, !flags.no_random, chosen, common.seed);
  std::exception_ptr trouble;
  const P0Report report = locate_or_stop(chosen.model, inputs, flags, trouble);

  const auto file = [&](const char* name) { return (directory / name).string(); };
  run.files = {{"archive", file("p0.h5")}, {"json", file("p0.json")}, {"text", file("p0.txt")}};
  // Files first: whoever reads standard output may stop in the middle. What was computed is printed
  // even if the disk turns out to be full; the first failure is told at the end.
  const auto attempt = [&trouble](const auto& write) {
    try {
      write();
    } catch (const Error&) {
      if (!trouble) trouble = std::current_exception();
    }
  };
  Illustration shown;
  attempt([&] { shown = illustrate_p0(chosen, inputs, report); });
  attempt([&] {
    if (draw(report.circuit, file("p0.dot"))) run.files["drawing"] = file("p0.svg");
    run.files["circuit"] = file("p0.dot");
  });
  end_run(run, chosen.model);
  const std::string json = p0_json(run, report);
  const std::string text = p0_text(run, report, chosen.tokens());
  attempt([&] { write_archive(run.files.at("archive"), run, report, inputs, shown); });
  attempt([&] { write_file(run.files.at("json"), json); });
  attempt([&] { write_file(run.files.at("text"), text); });
  print(common.json ? json : shown_text(text));
  if (trouble) std::rethrow_exception(trouble);
  say_cost(run, common.quiet);
  return 0;
}

void offer_p0_options(CLI::App& app, P0Options& options) {
  offer_causal(app, options);
  offer(app, "--self-mask-position", "K", "Position made to attend to itself alone (40)",
        [&options](const std::string& text) {
          options.self_mask_position = whole("--self-mask-position", text, 1, 1'000'000);
        });
  offer(app, "--thresholds", "NAME=X,...",
        "Of the ladder: necessary, control, sufficient, located, vocabulary, separable, recovered, "
        "link, signal, signal_margin, learned, shift",
        [&options](const std::string& text) {
          for (const std::string& part : comma_list(text)) {
            const std::size_t equals = part.find('=');
            if (equals == std::string::npos) {
              throw Error(ErrorKind::bad_argument,
                          "--thresholds expects NAME=X, not '" + part + "'");
            }
            set_threshold(options, part.substr(0, equals),
                          number("--thresholds", part.substr(equals + 1), 0.0, 1.0));
          }
        });
  offer(app, "--prefix", "N", "Tokens before the sequence in the displaced run (16)",
        [&options](const std::string& text) {
          options.prefix = whole("--prefix", text, 1, 1'000'000);
        });
}

}  // namespace

Command p0_command() {
  return {"p0", "Find the circuit that makes position 0 a sink, and test it causally",
          [](CLI::App& app, const std::string& command_line) {
            const auto flags = std::make_shared<P0Flags>();
            offer_model(app, flags->model);
            offer_inputs(app, flags->inputs,
                         "BOS to compare with the run without one (native); none: no comparison");
            app.add_flag("--no-random", flags->no_random,
                         "No comparison with random ids: for models of a task that has none such");
            offer_sink_options(app, flags->options.sink);
            offer_p0_options(app, flags->options);
            offer(app, "--only", "IDS",
                  "Run these experiments of the catalogue (B3,C7 or all) in place of the search",
                  [flags](const std::string& text) { flags->only = parse_p0_identifiers(text); });
            offer(app, "--general", "FILES", "L9: compare finished jobs, a.json,b.json,...",
                  [flags](const std::string& text) { flags->general = comma_list(text); });
            app.add_flag("--list", flags->list, "Name the experiments of --only and stop");
            offer_device(app, flags->common);
            offer_dtype(app, flags->common);
            offer_threads(app, flags->common);
            offer_seed(app, flags->common, "Of every random choice");
            offer_out(app, flags->common,
                      "Where p0.h5, p0.dot, p0.svg, p0.json and p0.txt go (out/p0)");
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags, command_line] { return run_p0(*flags, command_line); };
          }};
}

}  // namespace plumb::app
