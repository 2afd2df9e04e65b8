// plumb patch: activation and path patching sweeps.
#include "plumb/patch.h"

#include <memory>

#include "long_run.h"
#include "output.h"
#include "patch_flags.h"
#include "plumb/error.h"
#include "plumb/path_patch.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_svg.h"
#include "plumb/report_text.h"
#include "shared.h"

namespace plumb::app {
namespace {

struct PatchFlags {
  Common common = {};
  ModelFlags model = {};
  ExperimentFlags experiment = {};
  std::optional<Bos> bos = {};
  bool resume = false;
};

void check(const PatchFlags& flags) {
  check(flags.experiment, "plumb patch");
  if (flags.resume && flags.common.out.empty())
    throw Error(ErrorKind::bad_argument,
                "plumb patch needs --out DIR to resume from; see plumb patch --help");
}

void give_out(const PatchFlags& flags, RunInfo& run, const Pairs& pairs,
              const PatchReport& report) {
  const Common& common = flags.common;
  const std::string picture = patch_svg(report);
  if (!common.out.empty()) {
    const std::filesystem::path directory = common.out;
    run.files = {{"archive", (directory / "patch.h5").string()},
                 {"json", (directory / "patch.json").string()},
                 {"text", (directory / "patch.txt").string()}};
    if (!picture.empty()) run.files.emplace("picture", (directory / "patch.svg").string());
  }
  const std::string json = patch_json(run, pairs, report);
  const std::string text = patch_text(run, pairs, report);
  deliver(
      [&] {
        if (common.out.empty()) return;
        write_archive(run.files.at("archive"), run, pairs, report);
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
        if (!picture.empty()) write_file(run.files.at("picture"), picture);
      },
      common.json ? json : text);
}

/// The part of one of several processes: rank 0 keeps tiles and gives out what was found.
int run_rank(const PatchFlags& flags, const std::string& command_line, Ranks& ranks) {
  const bool first = ranks.rank() == 0;
  Common common = flags.common;
  check(flags);
  if (first && !common.out.empty()) prepare_directory(common.out);
  if (common.threads == 0) common.threads = ranks.threads();
  const Chosen chosen = open_model(flags.model, common);
  const PatchAsked asked =
      read_experiment(flags.experiment, chosen.model.config().layers, common.seed);
  RunInfo run = start_run(chosen.model, "patch", command_line, common.seed);
  run.ranks = ranks.size();
  const Pairs pairs = read_pairs_of(flags.experiment, flags.bos, chosen);
  const std::unique_ptr<TileFile> tiles =
      first ? tile_file(common.out, "patch", flags.resume) : nullptr;
  PatchReport report;
  try {
    const Progress progress = show_progress(common.quiet || !first);
    const Tiles kept = {.store = tiles.get(), .ranks = &ranks};
    report = asked.paths ? path_patch(chosen.model, pairs, asked.sweeps, *asked.paths,
                                      asked.options, progress, kept)
                         : patch(chosen.model, pairs, asked.sweeps, asked.options, progress, kept);
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
  return run_ranks([&](Ranks& ranks) { return run_rank(flags, command_line, ranks); });
}

}  // namespace

Command patch_command() {
  return {"patch", "Paste values of one run into another, site by site, and read a metric",
          [](CLI::App& app, const std::string& command_line) {
            const auto flags = std::make_shared<PatchFlags>();
            offer_model(app, flags->model);
            offer_experiment(app, flags->experiment);
            offer(app, "--bos", "none|native|ID", "Token before every text (native)",
                  [flags](const std::string& text) { flags->bos = parse_bos(text); });
            offer_device(app, flags->common);
            offer_dtype(app, flags->common);
            offer_threads(app, flags->common);
            offer_memory(app, flags->common);
            offer_seed(app, flags->common, "Of planted models and of resampling");
            offer_out(
                app, flags->common,
                "Also write patch.h5, patch.json, patch.txt and, of sweeps over two axes, "
                "patch.svg there; while the job lasts, patch.tiles.h5 keeps what is finished");
            app.add_flag("--resume", flags->resume,
                         "Go on with the tiles that an interrupted run left in --out");
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags, command_line] { return run_patch(*flags, command_line); };
          }};
}

}  // namespace plumb::app
