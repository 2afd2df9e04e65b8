// plumb patch: activation patching sweeps.
#include "plumb/patch.h"

#include <exception>

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"

namespace plumb::app {
namespace {

struct PatchFlags {
  Common common = {};
  ModelFlags model = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::vector<std::string> sweeps = {};
  PatchOptions options = {};
};

int run_patch(const PatchFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  const auto need = [](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument,
                  std::string("plumb patch needs ") + what + "; see plumb patch --help");
  };
  need(!flags.pairs.empty(), "--pairs FILE");
  need(!flags.sweeps.empty(), "at least one --sweep SITE:AXES");
  std::vector<SweepSpec> sweeps;
  for (const std::string& text : flags.sweeps) sweeps.push_back(parse_sweep(text));
  if (!common.out.empty()) prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "patch", command_line, common.seed);
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  const PatchReport report =
      patch(chosen.model, pairs, sweeps, flags.options, show_progress(common.quiet));
  end_run(run);
  if (!common.out.empty()) {
    const std::filesystem::path directory = common.out;
    run.files = {{"archive", (directory / "patch.h5").string()},
                 {"json", (directory / "patch.json").string()},
                 {"text", (directory / "patch.txt").string()}};
  }
  const std::string json = patch_json(run, pairs, report);
  const std::string text = patch_text(run, pairs, report);
  // Files first, and what was computed is printed even if the disk turns out to be full.
  std::exception_ptr trouble;
  try {
    if (!common.out.empty()) {
      write_archive(run.files.at("archive"), run, pairs, report);
      write_file(run.files.at("json"), json);
      write_file(run.files.at("text"), text);
    }
  } catch (const Error&) {
    trouble = std::current_exception();
  }
  print(common.json ? json : text);
  if (trouble) std::rethrow_exception(trouble);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command patch_command() {
  return {
      "patch", "Paste values of one run into another, site by site, and read a metric",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<PatchFlags>();
        offer_model(app, flags->model);
        offer(app, "--pairs", "FILE",
              "Pairs: JSON lines {\"clean\": TEXT or [ids], \"corrupt\": ..., \"answers\": [right, "
              "wrong]}, or a .csv of clean, corrupted, correct_idx, incorrect_idx",
              [flags](const std::string& text) { flags->pairs = text; });
        app.add_option("--sweep", flags->sweeps,
                       "What to go over, like resid_pre:layer,position or z:layer,head; may be "
                       "given several times")
            ->type_name("SITE:AXES")
            ->allow_extra_args(false);
        offer(
            app, "--direction", "denoising|noising",
            "denoising: run corrupt, paste clean; noising: run clean, paste corrupt (denoising)",
            [flags](const std::string& text) { flags->options.direction = parse_direction(text); });
        offer(app, "--metric", "NAME",
              "logit_diff, log_prob, prob, rank, kl, reverse_kl or js, at the last position "
              "(logit_diff)",
              [flags](const std::string& text) { flags->options.metric = parse_metric(text); });
        app.add_flag("--raw", flags->options.raw,
                     "The metric itself instead of 0 = unpatched, 1 = pasted from");
        offer(app, "--bos", "none|native|ID", "Token before every text (native)",
              [flags](const std::string& text) { flags->bos = parse_bos(text); });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_seed(app, flags->common, "Of planted models");
        offer_out(app, flags->common, "Also write patch.h5, patch.json and patch.txt there");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_patch(*flags, command_line); };
      }};
}

}  // namespace plumb::app
