// plumb record: chosen activations, into an archive.
#include "plumb/record.h"

#include <fmt/format.h>

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct RecordFlags {
  Common common = {};
  ModelFlags model = {};
  InputFlags inputs = {};
  SiteFlags sites = {};
  RecordOptions options = {};
};

at::ScalarType stored_type(const std::string& text) {
  const std::string name = one_of("--store", text, {"f32", "f16", "f64"});
  if (name == "f16") return at::kHalf;
  return name == "f64" ? at::kDouble : at::kFloat;
}

int run_record(const RecordFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  if (common.out.empty()) {
    throw Error(ErrorKind::bad_argument, "plumb record needs --out DIR to write record.h5 to");
  }
  if (flags.sites.sites.empty()) {
    throw Error(ErrorKind::bad_argument,
                "plumb record needs --sites, say --sites 'L0-2.z resid_post'; plumb inspect lists "
                "the sites of a model");
  }
  prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  RecordOptions options = flags.options;
  options.sites = read_sites(flags.sites, chosen.model);
  const Inputs inputs = read_inputs(flags.inputs, chosen, common.seed);
  RunInfo run = start_run(chosen.model, "record", command_line, common.seed);
  const std::filesystem::path directory = common.out;
  run.files = {{"archive", (directory / "record.h5").string()},
               {"json", (directory / "record.json").string()},
               {"text", (directory / "record.txt").string()}};
  const Recording recording = record(chosen.model, inputs, options, run.files.at("archive"), run,
                                     show_progress(common.quiet));
  const std::string json = record_json(run, inputs, recording);
  const std::string text = record_text(run, inputs, recording);
  deliver(
      [&] {
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
      },
      common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command record_command() {
  return {
      "record", "Store chosen activations in an archive, whatever its size",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<RecordFlags>();
        offer_model(app, flags->model);
        offer_sites(app, flags->sites);
        offer(app, "--store", "f32|f16|f64", "Type of the stored values (f32)",
              [flags](const std::string& text) { flags->options.store = stored_type(text); });
        offer(app, "--batch", "N",
              "Sequences in memory at a time (as many as 256 MB hold); results do not depend on "
              "it",
              [flags](const std::string& text) {
                flags->options.sequences = whole("--batch", text, 1, 1'000'000);
              });
        offer_inputs(app, flags->inputs,
                     "Token before every sequence (text: the tokenizer's own; others: none)");
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_layers(app, flags->common);
        offer_memory(app, flags->common);
        offer_seed(app, flags->common, "Of random ids and planted models");
        offer_out(app, flags->common, "Where record.h5, record.json and record.txt go (needed)");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_record(*flags, command_line); };
      }};
}

}  // namespace plumb::app
