// plumb patch: activation patching sweeps.
#include "plumb/patch.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "failure.h"
#include "output.h"
#include "plumb/error.h"
#include "plumb/ranks.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "plumb/tile_file.h"
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
  bool resume = false;
};

void check(const PatchFlags& flags) {
  const auto need = [](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument,
                  std::string("plumb patch needs ") + what + "; see plumb patch --help");
  };
  need(!flags.pairs.empty(), "--pairs FILE");
  need(!flags.sweeps.empty(), "at least one --sweep SITE:AXES");
  need(!flags.resume || !flags.common.out.empty(), "--out DIR to resume from");
}

std::unique_ptr<TileFile> tile_file(const PatchFlags& flags) {
  if (flags.common.out.empty()) return nullptr;
  return std::make_unique<TileFile>(std::filesystem::path(flags.common.out) / "patch.tiles.h5",
                                    flags.resume);
}

/// Says what is kept of an interrupted run. Returns the exit code.
int tell_interrupted(const TileFile& tiles) {
  std::fputs(fmt::format("plumb: interrupted; {} of {} tiles are in {}; the same call with "
                         "--resume goes on\n",
                         tiles.finished(), tiles.count(), tiles.path().string())
                 .c_str(),
             stderr);
  return exit_code(ErrorKind::interrupted);
}

void give_out(const PatchFlags& flags, RunInfo& run, const Pairs& pairs,
              const PatchReport& report) {
  const Common& common = flags.common;
  if (!common.out.empty()) {
    const std::filesystem::path directory = common.out;
    run.files = {{"archive", (directory / "patch.h5").string()},
                 {"json", (directory / "patch.json").string()},
                 {"text", (directory / "patch.txt").string()}};
  }
  const std::string json = patch_json(run, pairs, report);
  const std::string text = patch_text(run, pairs, report);
  deliver(
      [&] {
        if (common.out.empty()) return;
        write_archive(run.files.at("archive"), run, pairs, report);
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
      },
      common.json ? json : text);
}

/// The part of one of several processes: rank 0 keeps tiles and gives out what was found.
int run_rank(PatchFlags flags, const std::string& command_line, Ranks& ranks) {
  const bool first = ranks.rank() == 0;
  Common& common = flags.common;
  check(flags);
  std::vector<SweepSpec> sweeps;
  for (const std::string& text : flags.sweeps) sweeps.push_back(parse_sweep(text));
  if (first && !common.out.empty()) prepare_directory(common.out);
  if (common.threads == 0) common.threads = ranks.threads();
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "patch", command_line, common.seed);
  run.ranks = ranks.size();
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  const std::unique_ptr<TileFile> tiles = first ? tile_file(flags) : nullptr;
  PatchReport report;
  try {
    report = patch(chosen.model, pairs, sweeps, flags.options,
                   show_progress(common.quiet || !first), {.store = tiles.get(), .ranks = &ranks});
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted || !tiles) throw;
    const int code = tell_interrupted(*tiles);
    ranks.abort(code);
    return code;
  }
  end_run(run, chosen.model);
  if (!first) return 0;
  give_out(flags, run, pairs, report);
  if (tiles) tiles->remove();
  say_cost(run, common.quiet);
  return 0;
}

int run_patch(const PatchFlags& flags, const std::string& command_line) {
  Ranks ranks;
  try {
    return run_rank(flags, command_line, ranks);
  } catch (...) {
    if (ranks.size() > 1) ranks.abort(tell_failure());
    throw;
  }
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
        offer_out(app, flags->common,
                  "Also write patch.h5, patch.json and patch.txt there; while the job lasts, "
                  "patch.tiles.h5 keeps what is finished");
        app.add_flag("--resume", flags->resume,
                     "Go on with the tiles that an interrupted run left in --out");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_patch(*flags, command_line); };
      }};
}

}  // namespace plumb::app
